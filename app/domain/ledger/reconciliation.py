"""A reconciliation: what the books hold against what a seller bills, and a cause for every nanodollar between them."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import IntEnum, StrEnum
from typing import Final

from app.domain.errors import BreakevenError
from app.domain.ledger.period import Period
from app.domain.money import ZERO, Nanodollars

#: Millionths of what the seller bills: up to the first a residual is fine, up to the second it wants a look, and a
#: larger one is red.
GREEN_MOST_PPM: Final = 5_000
EXPLAIN_MOST_PPM: Final = 20_000
#: Single requests that are kept, those with the largest residuals.
LARGEST_KEPT: Final = 1_000


class Cause(StrEnum):
    """Why the seller's account and ours differ."""

    UNLOGGED = "unlogged_call"
    BILLED_TWICE = "billed_twice"
    NOT_AT_PROVIDER = "not_at_provider"
    PRICE = "price_drift"
    CACHED = "cached_class"
    TIER = "service_tier"
    ESTIMATE = "estimate"
    USAGE = "usage_differs"
    CREDIT = "credit_of_ours"
    TIME_BORDER = "time_border"
    ROUNDING = "rounding"
    UNEXPLAINED = "unexplained"


class Band(IntEnum):
    """How bad a residual is."""

    GREEN = 0
    EXPLAIN = 1
    RED = 2


class PartsDisagree(BreakevenError):
    """Causes do not sum to the residual; nothing is shown rather than something false."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Both accounts of the same thing."""

    ours: Nanodollars = ZERO
    provider: Nanodollars = ZERO
    our_requests: int = 0
    #: None: the export does not count them.
    provider_requests: int | None = None

    @property
    def residual(self) -> Nanodollars:
        """What the seller bills beyond our books; below zero where it bills less."""
        return Nanodollars(self.provider - self.ours)

    @property
    def ppm(self) -> int | None:
        """The residual in millionths of what the seller bills, rounded up; None: it bills nothing, and we booked."""
        if self.residual == 0:
            return 0
        return None if self.provider == 0 else -(-abs(self.residual) * 1_000_000 // abs(self.provider))

    @property
    def band(self) -> Band:
        ppm = self.ppm
        if ppm is None or ppm > EXPLAIN_MOST_PPM:
            return Band.RED
        return Band.GREEN if ppm <= GREEN_MOST_PPM else Band.EXPLAIN

    def __add__(self, other: Compared) -> Compared:
        counts = [each.provider_requests for each in (self, other) if each.provider_requests is not None]
        return Compared(
            ours=Nanodollars(self.ours + other.ours),
            provider=Nanodollars(self.provider + other.provider),
            our_requests=self.our_requests + other.our_requests,
            provider_requests=sum(counts) if counts else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseLine:
    """What one cause makes of the residual. `more` and `less`: the seller bills more, or less, than the books hold."""

    cause: Cause
    requests: int
    more: Nanodollars
    less: Nanodollars

    @property
    def amount(self) -> Nanodollars:
        return Nanodollars(self.more + self.less)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One request of which the two accounts differ. A side that does not have it says None."""

    request: str
    model: str
    day: date
    ours: Nanodollars | None
    provider: Nanodollars | None
    causes: tuple[tuple[Cause, Nanodollars], ...]

    @property
    def residual(self) -> Nanodollars:
        return Nanodollars((self.provider or 0) - (self.ours or 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """Total, models, days of models, causes; each level sums to the one above it."""

    period: Period
    total: Compared
    models: Mapping[str, Compared]
    days: Mapping[tuple[str, date], Compared]
    #: In the order of `Cause`; those that explain nothing are left out.
    causes: tuple[CauseLine, ...]
    causes_of_days: Mapping[tuple[str, date], Mapping[Cause, Nanodollars]]
    #: The largest residuals first.
    largest: tuple[Finding, ...]

    @property
    def band(self) -> Band:
        """The worst of the total and of each model."""
        return max([self.total.band, *(each.band for each in self.models.values())])


@dataclass(slots=True)
class _Caused:
    requests: int = 0
    more: int = 0
    less: int = 0


@dataclass(slots=True)
class Tally:
    """A reconciliation in the making: fed with both accounts and with causes, in any order."""

    period: Period
    _cells: dict[tuple[str, date], Compared] = field(default_factory=dict)
    _causes: dict[Cause, _Caused] = field(default_factory=dict)
    _caused: dict[tuple[str, date], Counter[Cause]] = field(default_factory=dict)
    _largest: list[tuple[int, str, int, Finding]] = field(default_factory=list)
    _findings: int = 0

    def holds(self, model: str, day: date, amount: int, *, requests: int = 0) -> None:
        """The books count this for that day."""
        self._add(model, day, Compared(ours=Nanodollars(amount), our_requests=requests))

    def bills(self, model: str, day: date, amount: int, *, requests: int | None = None) -> None:
        """The seller bills this for that day."""
        self._add(model, day, Compared(provider=Nanodollars(amount), provider_requests=requests))

    def explains(self, cause: Cause, model: str, day: date, amount: int) -> None:
        """The seller bills so much more, or less, for that day because of `cause`."""
        if amount == 0:
            return
        line = self._causes.setdefault(cause, _Caused())
        line.more += max(amount, 0)
        line.less += min(amount, 0)
        self._caused.setdefault((model, day), Counter())[cause] += amount

    def counts(self, cause: Cause, requests: int) -> None:
        """So many requests differ by `cause`."""
        if requests:
            self._causes.setdefault(cause, _Caused()).requests += requests

    def finds(self, finding: Finding) -> None:
        """A single request differs; only those that differ most are kept."""
        self._findings += 1
        entry = (abs(finding.residual), finding.request, self._findings, finding)
        if len(self._largest) < LARGEST_KEPT:
            heapq.heappush(self._largest, entry)
        else:
            heapq.heappushpop(self._largest, entry)

    def compiled(self) -> Reconciliation:
        """The whole, after proof. Raises PartsDisagree unless the causes of every day sum to its residual exactly."""
        for (model, day), compared in self._cells.items():
            explained = sum(self._caused.get((model, day), Counter()).values())
            if explained != compared.residual:
                raise PartsDisagree(
                    f"the causes of {model} on {day} sum to {explained} nanodollars, its residual is "
                    f"{compared.residual}: nothing is shown; report this with the export's columns"
                )
        if lost := self._caused.keys() - self._cells.keys():
            raise PartsDisagree(f"causes without an account: {sorted(map(str, lost))}: report this")
        models: dict[str, Compared] = {}
        for model, day in sorted(self._cells):
            models[model] = models.get(model, Compared()) + self._cells[model, day]
        return Reconciliation(
            period=self.period,
            total=sum(models.values(), Compared()),
            models=models,
            days={key: self._cells[key] for key in sorted(self._cells)},
            causes=tuple(self._line(cause) for cause in Cause if cause in self._causes),
            causes_of_days={
                key: {cause: Nanodollars(amount) for cause, amount in sorted(self._caused[key].items()) if amount}
                for key in sorted(self._caused)
            },
            largest=tuple(entry[3] for entry in sorted(self._largest, key=lambda entry: (-entry[0], entry[1]))),
        )

    def _add(self, model: str, day: date, compared: Compared) -> None:
        known = self._cells.get((model, day))
        self._cells[model, day] = compared if known is None else known + compared

    def _line(self, cause: Cause) -> CauseLine:
        caused = self._causes[cause]
        return CauseLine(
            cause=cause, requests=caused.requests, more=Nanodollars(caused.more), less=Nanodollars(caused.less)
        )
