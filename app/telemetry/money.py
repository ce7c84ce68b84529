"""What budgets and limits did: whom they turned away, how much of budgets is used, how alerts fare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from app.domain.alert import Alert
from app.domain.errors import BreakevenError, BudgetExceeded, RateLimited
from app.telemetry import names
from app.telemetry.exposition import label_text, numbers

#: Names come from the policy. Should edits of a long life make more than this, the rest is "other".
MOST_NAMES: Final = 1000


class MoneyMeter:
    """Counts refusals, and hears of budgets and alerts; `lines` are its part of the exposition."""

    def __init__(self, *, most_names: int = MOST_NAMES) -> None:
        self._most_names = most_names
        self._budget_refusals: dict[str, int] = {}
        self._limit_refusals: dict[str, int] = {}
        self._used: Mapping[str, float] = {}
        # An alarm on failures needs the zero before the first.
        self._alerts = dict.fromkeys(("raised", "delivered", "failed", "dead"), 0)

    def refused(self, error: BreakevenError) -> None:
        """A caller was told of this error; counts only what budgets and limits refuse."""
        if isinstance(error, BudgetExceeded):
            self._count(self._budget_refusals, error.budget)
        elif isinstance(error, RateLimited):
            self._count(self._limit_refusals, error.limit)

    def budgets_used(self, used: Mapping[str, float]) -> None:
        """By the budget's name the part that is spent: all the policy has."""
        self._used = used

    def alert_raised(self, alert: Alert) -> None:
        """This process raised it."""
        self._alerts["raised"] += 1

    def alert_delivered(self, alert: Alert) -> None:
        """Its receiver took it."""
        self._alerts["delivered"] += 1

    def alert_failed(self, alert: Alert, *, error: str, is_last: bool) -> None:
        """Its receiver did not; the last attempt makes it dead, too."""
        self._alerts["failed"] += 1
        self._alerts["dead"] += is_last

    def lines(self) -> Iterator[str]:
        """The figures now, in Prometheus' text format."""
        yield from numbers(names.BUDGET_REFUSALS, _rows(names.BUDGET_REFUSALS, self._budget_refusals))
        yield from numbers(names.LIMIT_REFUSALS, _rows(names.LIMIT_REFUSALS, self._limit_refusals))
        yield from numbers(names.BUDGET_USED, _rows(names.BUDGET_USED, self._used))
        yield from numbers(names.ALERTS, _rows(names.ALERTS, self._alerts))

    def _count(self, counts: dict[str, int], name: str) -> None:
        known = name if name in counts or len(counts) < self._most_names else "other"
        counts[known] = counts.get(known, 0) + 1


def _rows(family: names.Family, figures: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    for name, figure in figures.items():
        yield label_text(family.labels, (name,)), figure
