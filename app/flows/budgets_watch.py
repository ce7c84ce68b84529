"""How much of each budget is gone, looked up in the books now and then, for the conditions that read it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from app.domain.budget import period
from app.domain.routing.policy import Policy
from app.live.budgets import SpentBudgets
from app.live.policy_slot import PolicySlot
from app.ports import BooksAway, Clock, SpendBook

#: Between looks at the clock and the policy: a budget that is new in the policy is known after this long.
LOOK_EVERY_S = 1.0
#: Between readings of the books.
READ_EVERY_S = 5.0
_MICROSECONDS = 1_000_000


async def refresh_budgets(book: SpendBook, budgets: SpentBudgets, policy: Policy, *, at_us: int) -> None:
    """Ask the books for every budget that a condition of the policy reads or that has steps; `at_us` is the wall clock.

    Raises BooksAway: what was known before stands then, and grows by what this process settles.
    """
    at = datetime.fromtimestamp(at_us / _MICROSECONDS, UTC).astimezone(policy.timezone)
    read = {name for route in policy.routes.values() for name in route.reads_budgets}
    for name in sorted(read | {budget.name for budget in policy.degrading}):
        budget = policy.budgets[name]
        begin, end = period(budget.every, at=at)
        since = budgets.since(name)
        spent = await book.spent(budget, begin=begin, end=end)
        budgets.told(budget, spent=spent, begin=begin, end=end, since=since)


async def watch_budgets(
    book: SpendBook,
    budgets: SpentBudgets,
    slot: PolicySlot,
    *,
    clock: Clock,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Refresh when the policy is another one and every few seconds, for ever, until cancelled."""
    read: Policy | None = None
    read_at_s = 0.0
    while True:
        policy, now_s = slot.current, clock.monotonic_s()
        if policy is not read or now_s - read_at_s >= READ_EVERY_S:
            read, read_at_s = policy, now_s
            with contextlib.suppress(BooksAway):
                await refresh_budgets(book, budgets, policy, at_us=clock.unix_us())
        await pause(LOOK_EVERY_S)
