"""How every budget of the policy stands now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from app.domain.budget import Budget, period
from app.domain.ledger.account import Standing
from app.domain.ledger.forecast import used_up_at
from app.domain.money import ZERO, Nanodollars
from app.domain.routing.policy import Policy
from app.ports import SpendBook
from app.ports.ledger import BudgetBook, LeaseWanted


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetStanding:
    """One budget in its period. `held`: set aside by processes, not spent yet."""

    budget: Budget
    begin: datetime
    end: datetime
    spent: Nanodollars
    held: Nanodollars
    #: Kept by processes that were not heard of; spent, until their spools turn up.
    lost: Nanodollars
    overrun: Nanodollars
    #: None: not within the period, or it is too early to say.
    used_up_at: datetime | None

    @property
    def left(self) -> Nanodollars:
        """What nobody has spent or set aside; below zero when it was lowered under that."""
        return Nanodollars(self.budget.amount - self.spent - self.held - self.lost)


async def budget_standings(
    policy: Policy, book: BudgetBook, spend: SpendBook, *, at_s: float
) -> Sequence[BudgetStanding]:
    """All of them by name; `at_s` is Unix time. One that nothing was held of yet is added up. Raises BooksAway."""
    at = datetime.fromtimestamp(at_s, UTC).astimezone(policy.timezone)
    found = []
    for _, budget in sorted(policy.budgets.items()):
        begin, end = period(budget.every, at=at)
        (standing,) = await book.standings([LeaseWanted(budget=budget, begin=begin, end=end)])
        if standing is None:
            spent = await spend.spent(budget, begin=begin, end=end)
            standing = Standing(cap=budget.amount, spent=spent, leased=ZERO, lost=ZERO, overrun=ZERO)
        found.append(
            BudgetStanding(
                budget=budget,
                begin=begin,
                end=end,
                spent=standing.spent,
                held=standing.leased,
                lost=standing.lost,
                overrun=standing.overrun,
                used_up_at=used_up_at(spent=standing.spent, amount=budget.amount, begin=begin, end=end, at=at),
            )
        )
    return found
