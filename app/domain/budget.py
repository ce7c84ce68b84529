"""A budget: whose money, how much, for how long; and how much of it is gone."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from app.domain.caller import Caller
from app.domain.money import Nanodollars, dollars

_DAYS_OF_A_WEEK = 7
_MONTHS_OF_A_YEAR = 12


class Every(StrEnum):
    """After which a budget begins anew, in the policy's timezone. Weeks begin on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Mode(StrEnum):
    """How a budget holds. hard: the worst case is held before a dispatch, so it is never overspent. soft: what such a
    request is likely to cost is held, so more is admitted, and the last ones may overspend it. watch: nothing is held,
    nobody is refused."""

    HARD = "hard"
    SOFT = "soft"
    WATCH = "watch"


@dataclass(frozen=True, slots=True, kw_only=True)
class PastStep:
    """What changes once a part of a budget is spent, for the requests that it is of.

    At least one of the two. `only`: no other target may serve; `prefer_cheapest`: the rule's order gives way to price.
    """

    #: The part from which on it counts: 0 to 1, in millionths.
    from_ppm: int
    only: tuple[str, ...] = ()
    prefer_cheapest: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """As ops wrote it. What is None does not narrow it; all None: the whole gateway's."""

    name: str
    amount: Nanodollars
    every: Every
    team: str | None = None
    cost_centre: str | None = None
    key: str | None = None
    model: str | None = None
    tag: str | None = None
    mode: Mode = Mode.HARD
    #: Parts of it, in millionths, ascending, at which a warning is sent.
    warn_at_ppm: tuple[int, ...] = ()
    #: By `from_ppm`, ascending. With a step at 1,000,000 requests are served past the budget by `only` its targets,
    #: and held from it no more; without one they are refused.
    past: tuple[PastStep, ...] = ()

    #: The key of its account: its name and whose money it is. A new amount leaves it as it is; another scope or
    #: period opens another one.
    account: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        whose = (self.every.value, self.team, self.cost_centre, self.key, self.model, self.tag)
        parts = "/".join("" if part is None else part.replace("%", "%25").replace("/", "%2F") for part in whose)
        object.__setattr__(self, "account", f"{self.name}:{parts}")

    def is_of(self, *, caller: Caller, model: str) -> bool:
        """True when such a request spends its money."""
        return (
            self.team in (None, caller.team)
            and self.cost_centre in (None, caller.cost_centre)
            and self.key in (None, caller.key_id)
            and self.model in (None, model)
            and (self.tag is None or self.tag in caller.tags)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSeen:
    """A budget as this process knows it at one moment."""

    remaining_usd: float
    #: The part that is spent: 0 to 1, and above when it is overspent.
    used: float
    #: Whole days until it begins anew, today included.
    days_left: int

    @classmethod
    def of(cls, budget: Budget, *, spent: Nanodollars, at: datetime) -> BudgetSeen:
        """At `at`, a moment in the policy's timezone, with so much spent since `period(…)` began. A budget of nothing
        is used up."""
        _, end = period(budget.every, at=at)
        remaining = Nanodollars(budget.amount - spent)
        return cls(
            remaining_usd=float(dollars(remaining)),
            used=spent / budget.amount if budget.amount else 1.0,
            days_left=(end.date() - at.date()).days,
        )


def period(every: Every, *, at: datetime) -> tuple[datetime, datetime]:
    """The period around `at`: its first moment, and the first one after it, in the timezone of `at`.

    Days are the calendar's: one has 23 or 25 hours when the clocks change. Where they change at midnight, a day begins
    at the first of two midnights, and at the first moment there is where midnight is left out.
    """
    begin = at.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    match every:
        case Every.DAY:
            return begin, begin + timedelta(days=1)
        case Every.WEEK:
            monday = begin - timedelta(days=begin.weekday())
            return monday, monday + timedelta(days=_DAYS_OF_A_WEEK)
        case Every.MONTH:
            first = begin.replace(day=1)
            following = (
                first.replace(year=first.year + 1, month=1)
                if first.month == _MONTHS_OF_A_YEAR
                else first.replace(month=first.month + 1)
            )
            return first, following
