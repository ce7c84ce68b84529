"""Measured rates, made somewhere, become prices here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from app.live.fleet import Fleet
from app.live.policy_slot import PolicySlot
from app.ports import BooksAway, RatesBook

REFRESH_EVERY_S = 5.0


async def refresh_rates(book: RatesBook, fleet: Fleet, slot: PolicySlot) -> None:
    """Price the fleet by the newest measurements. Raises BooksAway: the prices known before stand then."""
    newest = await book.newest()
    # The policy may have been swapped in the meantime: the one in force now counts.
    fleet.measured(newest, policy=slot.current)


async def keep_rates_fresh(
    book: RatesBook,
    fleet: Fleet,
    slot: PolicySlot,
    *,
    every_s: float = REFRESH_EVERY_S,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Refresh, for ever, until cancelled; while Postgres is away, what is known stands.

    Prices that change with the day change here, at most `every_s` late; an attempt keeps that of its dispatch.
    """
    while True:
        await pause(every_s)
        try:
            await refresh_rates(book, fleet, slot)
        except BooksAway:
            fleet.follow(slot.current)
