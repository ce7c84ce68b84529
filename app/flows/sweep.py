"""Leases of budgets whose process has not been heard of in time are lost: said to the books every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from app.ports import BooksAway
from app.ports.ledger import BudgetBook

#: On average, between two sweeps of one process.
SWEEP_EVERY_S: Final = 5.0


async def sweep_leases(
    book: BudgetBook,
    *,
    jitter: Callable[[], float],
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Sweep for ever, until cancelled; a sweep that finds the books away is left out.

    Every process may run it: the books sweep each lease once. `jitter` gives a number in [0, 1) that spreads them. It
    pauses before the first sweep: a process that starts has nothing to say about the leases of others.
    """
    while True:
        await pause(SWEEP_EVERY_S * (0.5 + jitter()))
        with contextlib.suppress(BooksAway):
            await book.sweep()
