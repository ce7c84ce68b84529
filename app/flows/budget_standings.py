"""How every budget of the policy stands now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from app.domain.alert import percent
from app.domain.budget import Budget, period
from app.domain.ledger.account import Standing
from app.domain.ledger.forecast import used_up_at
from app.domain.money import ZERO, Nanodollars, dollars
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

    @property
    def used(self) -> float:
        """The part that is spent: 0 to 1, and above when it is overspent. One of nothing is used up."""
        return self.spent / self.budget.amount if self.budget.amount else 1.0

    @property
    def used_percent(self) -> str:
        """The same in percent, as text."""
        return f"{100 * self.used:.1f}"


async def budget_standings(
    policy: Policy, book: BudgetBook, spend: SpendBook, *, at_s: float
) -> Sequence[BudgetStanding]:
    """All of them by name; `at_s` is Unix time. One that nothing was held of yet is added up. Raises BooksAway."""
    at = datetime.fromtimestamp(at_s, UTC).astimezone(policy.timezone)
    wanted = [_wanted(budget, at=at) for _, budget in sorted(policy.budgets.items())]
    accounts = await book.standings(wanted) if wanted else ()
    return [
        _standing(one, await _added_up(one, spend) if account is None else account, at=at)
        for one, account in zip(wanted, accounts, strict=True)
    ]


def standing_view(standing: BudgetStanding) -> dict[str, object]:
    """As JSON takes it; dollars are text, exact."""
    budget = standing.budget
    return {
        "name": budget.name,
        "of": whose(budget),
        "every": budget.every.value,
        "mode": budget.mode.value,
        "begin": standing.begin.isoformat(),
        "end": standing.end.isoformat(),
        "usd": f"{dollars(budget.amount):f}",
        "spent_usd": f"{dollars(standing.spent):f}",
        "held_usd": f"{dollars(standing.held):f}",
        "lost_usd": f"{dollars(standing.lost):f}",
        "left_usd": f"{dollars(standing.left):f}",
        "overrun_usd": f"{dollars(standing.overrun):f}",
        "used_percent": standing.used_percent,
        "used_up_at": None if standing.used_up_at is None else standing.used_up_at.isoformat(),
        "warn_at_percent": [percent(part_ppm) for part_ppm in budget.warn_at_ppm],
    }


def whose(budget: Budget) -> str:
    """Whose money it is, in words."""
    named = {
        "team": budget.team,
        "cost centre": budget.cost_centre,
        "key": budget.key,
        "model": budget.model,
        "tag": budget.tag,
    }
    return ", ".join(f"{kind} {name}" for kind, name in named.items() if name is not None) or "the whole gateway"


def _wanted(budget: Budget, *, at: datetime) -> LeaseWanted:
    begin, end = period(budget.every, at=at)
    return LeaseWanted(budget=budget, begin=begin, end=end)


async def _added_up(one: LeaseWanted, spend: SpendBook) -> Standing:
    spent = await spend.spent(one.budget, begin=one.begin, end=one.end)
    return Standing(cap=one.budget.amount, spent=spent, leased=ZERO, lost=ZERO, overrun=ZERO)


def _standing(one: LeaseWanted, standing: Standing, *, at: datetime) -> BudgetStanding:
    budget, begin, end = one.budget, one.begin, one.end
    return BudgetStanding(
        budget=budget,
        begin=begin,
        end=end,
        spent=standing.spent,
        held=standing.leased,
        lost=standing.lost,
        overrun=standing.overrun,
        used_up_at=used_up_at(spent=standing.spent, amount=budget.amount, begin=begin, end=end, at=at),
    )
