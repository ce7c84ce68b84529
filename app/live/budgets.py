"""How much of each budget is gone: what the books said last, and what this process has settled since."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

from app.domain.budget import Budget, BudgetSeen, period
from app.domain.ledger.receipt import Receipt
from app.domain.money import Nanodollars
from app.domain.routing.policy import Policy

_NOTHING: Mapping[str, BudgetSeen] = {}
_MICROSECONDS = 1_000_000


class SpentBudgets:
    """Told by the story that asks the books, fed with receipts in between. Nothing is held, and nobody is refused."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._policy: Policy | None = None
        self._view = _NOTHING
        #: The day, in the policy's timezone, that the view was made on.
        self._day: date | None = None

    @property
    def counts(self) -> bool:
        """False while no budget is known: receipts need not be shown."""
        return bool(self._known)

    def settled(self, receipt: Receipt) -> None:
        """Count its charge for every budget it belongs to. Copies for shadows count: money is money."""
        charge = receipt.charge
        if not charge:
            return
        for known in self._known.values():
            if known.concerns(receipt):
                known.since += charge
                self._day = None

    def since(self, name: str) -> int:
        """What this process has settled for the budget since the books were asked last; given back in `told`."""
        known = self._known.get(name)
        return 0 if known is None else known.since

    def told(self, budget: Budget, *, spent: Nanodollars, begin: datetime, end: datetime, since: int) -> None:
        """The books hold so much for the period from `begin` to `end`. `since` was `since(…)` before they were asked:
        what came later they may not hold yet."""
        before = self._known.get(budget.name)
        fresh = _Known(budget, begin=begin, end=end)
        if before is not None and before.is_the_same_money(budget) and before.begin == begin:
            fresh.since = before.since - since
        fresh.spent = spent
        self._known[budget.name] = fresh
        self._day = None

    def view(self, policy: Policy, *, at: datetime) -> Mapping[str, BudgetSeen]:
        """The policy's budgets by name, as known at `at` (of the policy's timezone); unknown ones are not there.

        At the end of a period a budget begins anew, whether or not the books can be asked.
        """
        if not policy.budgets:
            self._known.clear()
            return _NOTHING
        today = at.date()
        if policy is not self._policy or today != self._day:
            self._policy, self._day = policy, today
            self._known = {name: known for name, known in self._known.items() if name in policy.budgets}
            self._view = dict(self._seen(policy, at))
        return self._view

    def _seen(self, policy: Policy, at: datetime) -> list[tuple[str, BudgetSeen]]:
        seen = []
        for name, known in self._known.items():
            budget = policy.budgets[name]
            if not known.is_the_same_money(budget):
                continue
            known.begin_anew(at)
            seen.append((name, BudgetSeen.of(budget, spent=Nanodollars(known.spent + known.since), at=at)))
        return seen


class _Known:
    """One budget in one period."""

    __slots__ = ("_begin_us", "_end_us", "begin", "budget", "end", "since", "spent")

    def __init__(self, budget: Budget, *, begin: datetime, end: datetime) -> None:
        self.budget = budget
        self._between(begin, end)

    def _between(self, begin: datetime, end: datetime) -> None:
        self.begin, self.end = begin, end
        self._begin_us, self._end_us = (int(each.timestamp()) * _MICROSECONDS for each in (begin, end))
        self.spent, self.since = 0, 0

    def begin_anew(self, at: datetime) -> None:
        if at >= self.end:
            self._between(*period(self.budget.every, at=at))

    def is_the_same_money(self, budget: Budget) -> bool:
        """Only its amount may differ."""
        ours = self.budget
        return (ours.every, ours.team, ours.cost_centre, ours.key, ours.model) == (
            budget.every,
            budget.team,
            budget.cost_centre,
            budget.key,
            budget.model,
        )

    def concerns(self, receipt: Receipt) -> bool:
        budget, caller = self.budget, receipt.facts.caller
        return (
            self._begin_us <= receipt.at_us < self._end_us
            and budget.team in (None, caller.team)
            and budget.cost_centre in (None, caller.cost_centre)
            and budget.key in (None, caller.key_id)
            and budget.model in (None, receipt.facts.model)
        )
