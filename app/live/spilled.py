"""What rules with a cap on spilling spent at managed targets within the last hour, as far as this process knows."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from app.domain.ledger.receipt import Receipt
from app.domain.money import Nanodollars
from app.domain.routing.policy import Policy
from app.domain.routing.snapshot import spill_key
from app.domain.target import Hosting
from app.live.rolling import RollingSum

HOUR_S = 3600.0
STEP_S = 60.0

_NOTHING: Mapping[str, Nanodollars] = {}


class Spilled:
    """Fed with receipts as they are settled. Rules without a cap are not counted, and cost nothing."""

    def __init__(self) -> None:
        self._policy: Policy | None = None
        self._sums: dict[str, RollingSum] = {}
        self._view = _NOTHING
        self._due_s = inf

    @property
    def counts(self) -> bool:
        """False while no rule has a cap: receipts need not be shown."""
        return bool(self._sums)

    def view(self, policy: Policy, *, at_s: float) -> Mapping[str, Nanodollars]:
        """By `spill_key`, for the rules of this policy that have a cap; those that spent nothing are not there.

        A policy other than the last one is followed from here on: rules that keep their name keep their sum.
        """
        if policy is not self._policy:
            self._follow(policy)
        if at_s >= self._due_s:
            self._look(at_s)
        return self._view

    def settled(self, receipt: Receipt, *, at_s: float) -> None:
        """Count what this receipt spent at managed targets, if its rule has a cap."""
        counted = self._sums.get(spill_key(model=receipt.facts.model, rule=receipt.decision.rule or ""))
        if counted is None or receipt.shadow_of is not None:
            return
        spent = sum(attempt.charge for attempt in receipt.attempts if attempt.hosting is Hosting.MANAGED)
        if spent:
            counted.add(spent, at_s=at_s)
            self._due_s = at_s

    def _follow(self, policy: Policy) -> None:
        self._policy = policy
        capped = [
            spill_key(model=route.model, rule=rule.name)
            for route in policy.routes.values()
            for rule in route.rules
            if rule.spill is not None and rule.spill.most_per_hour is not None
        ]
        self._sums = {key: self._sums.get(key) or RollingSum(span_s=HOUR_S, step_s=STEP_S) for key in capped}
        self._due_s = -inf

    def _look(self, at_s: float) -> None:
        totals = {key: counted.total(at_s=at_s) for key, counted in self._sums.items()}
        self._view = {key: Nanodollars(total) for key, total in totals.items() if total}
        self._due_s = min((counted.changes_after_s(at_s=at_s) for counted in self._sums.values()), default=inf)
