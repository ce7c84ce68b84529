"""Budgets are looked at every few seconds; what they call for is raised as alerts, once, whoever looks first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Protocol

from app.domain.alert import Alert, AlertKind, alerts_due
from app.domain.budget import Budget
from app.domain.money import Nanodollars
from app.domain.routing.policy import Policy
from app.flows.budget_standings import BudgetStanding, budget_standings
from app.live.policy_slot import PolicySlot
from app.ports import BooksAway, Clock, Ids, SpendBook
from app.ports.alerts import AlertBook
from app.ports.ledger import BudgetBook

#: On average, between two looks of one process.
LOOK_EVERY_S: Final = 5.0
#: A sum that took a second is made again after so many.
SUM_REST_TIMES: Final = 100.0
_MICROSECONDS: Final = 1_000_000


class BudgetListener(Protocol):
    """Is told what a look at the budgets has shown. Never raises, never waits."""

    def budgets_used(self, used: Mapping[str, float]) -> None:
        """By the budget's name the part that is spent, above 1 when it is overspent: all the policy has."""
        ...

    def alert_raised(self, alert: Alert) -> None:
        """This process raised it."""
        ...


class BudgetWarnings:
    """Raises the alerts of a policy's budgets. Any number of processes may: the book keeps each alert once."""

    def __init__(
        self, *, book: BudgetBook, spend: SpendBook, alerts: AlertBook, clock: Clock, ids: Ids, listener: BudgetListener
    ) -> None:
        self._book = book
        self._sums = _Sums(spend, clock)
        self._alerts = alerts
        self._clock = clock
        self._ids = ids
        self._listener = listener
        #: What the book was told of already, so that it is not told again with every look.
        self._told: frozenset[tuple[object, ...]] = frozenset()

    async def look(self, policy: Policy) -> int:
        """Look once; how many alerts were raised. Raises BooksAway, and the next look makes up for it."""
        at_us = self._clock.unix_us()
        known = replace(policy, budgets=self._sums.without_failing(policy.budgets))
        standings = await budget_standings(known, self._book, self._sums, at_s=at_us / _MICROSECONDS)
        self._listener.budgets_used({each.budget.name: each.used for each in standings})
        due = {_about(alert): alert for each in standings for alert in self._due(each, at_us=at_us)}
        raised = await self._raise([alert for about, alert in due.items() if about not in self._told])
        self._told = frozenset(due)
        return raised

    async def keep(
        self,
        slot: PolicySlot,
        *,
        jitter: Callable[[], float],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Look for ever, until cancelled; a look that finds the books away is left out. `jitter` gives a number in
        [0, 1) that spreads the processes."""
        while True:
            await pause(LOOK_EVERY_S * (0.5 + jitter()))
            with contextlib.suppress(BooksAway):
                await self.look(slot.current)

    async def _raise(self, alerts: Sequence[Alert]) -> int:
        if not alerts:
            return 0
        new = frozenset(await self._alerts.fire(alerts))
        for alert in alerts:
            if alert.alert_id in new:
                self._listener.alert_raised(alert)
        return len(new)

    def _due(self, standing: BudgetStanding, *, at_us: int) -> list[Alert]:
        budget = standing.budget
        due = alerts_due(budget, spent=standing.spent, used_up_at=standing.used_up_at)
        return [self._alert(standing, kind=kind, threshold_ppm=part_ppm, at_us=at_us) for kind, part_ppm in due]

    def _alert(self, standing: BudgetStanding, *, kind: AlertKind, threshold_ppm: int, at_us: int) -> Alert:
        return Alert(
            alert_id=self._ids.request_id(at_us=at_us),
            kind=kind,
            threshold_ppm=threshold_ppm,
            budget=standing.budget.name,
            account=standing.budget.account,
            begin=standing.begin,
            end=standing.end,
            amount=standing.budget.amount,
            spent=standing.spent,
            used_up_at=standing.used_up_at,
            raised_at=datetime.fromtimestamp(at_us / _MICROSECONDS, UTC),
        )


class _Sums:
    """ports.SpendBook that adds a budget up no more often than it can afford: of our time, a sum takes a hundredth.

    Budgets with an account need no sum. Of the others, those of a tag are added up from every receipt of the period.
    """

    def __init__(self, book: SpendBook, clock: Clock) -> None:
        self._book = book
        self._clock = clock
        self._kept: dict[tuple[str, datetime], tuple[Nanodollars, float]] = {}
        self._failing: dict[str, float] = {}

    def without_failing(self, budgets: Mapping[str, Budget]) -> Mapping[str, Budget]:
        """Those budgets but for any whose sum did not come to an end lately: the others are warned of meanwhile."""
        now_s = self._clock.monotonic_s()
        self._failing = {account: until_s for account, until_s in self._failing.items() if now_s < until_s}
        self._kept = {about: kept for about, kept in self._kept.items() if now_s < kept[1]}
        return {name: budget for name, budget in budgets.items() if budget.account not in self._failing}

    async def spent(self, budget: Budget, *, begin: datetime, end: datetime) -> Nanodollars:
        """As the book says, or as it said when it was asked last. Raises BooksAway."""
        began_s = self._clock.monotonic_s()
        kept = self._kept.get((budget.account, begin))
        if kept is not None and began_s < kept[1]:
            return kept[0]
        try:
            spent = await self._book.spent(budget, begin=begin, end=end)
        except BooksAway:
            self._failing[budget.account] = self._affordable_s(began_s)
            raise
        self._kept[budget.account, begin] = (spent, self._affordable_s(began_s))
        return spent

    def _affordable_s(self, began_s: float) -> float:
        now_s = self._clock.monotonic_s()
        return now_s + SUM_REST_TIMES * (now_s - began_s)


def _about(alert: Alert) -> tuple[object, ...]:
    return alert.account, alert.begin, alert.kind, alert.threshold_ppm, alert.amount
