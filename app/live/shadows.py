"""Copies on their way to shadows: how many at once, and what they have cost lately, as far as this process knows."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from app.domain.money import Nanodollars
from app.live.rolling import RollingSum

#: Copies that wait or are under way, each with the body it was made of; what comes beyond is dropped.
MOST_AT_ONCE = 16
DAY_S = 86_400.0
STEP_S = 900.0

_Copy = TypeVar("_Copy")


class Dropped(StrEnum):
    """Why a copy was not sent."""

    CROWDED = "crowded"
    CAPPED = "capped"
    #: The shadow could not serve when its turn came: full, resting, out of its limits, gone.
    UNFIT = "unfit"
    #: The journal took no new work.
    NO_ROOM = "no_room"


class Shadows(Generic[_Copy]):
    """A waiting line with a bound. What becomes of a copy is told in `ended`, exactly once."""

    def __init__(self, *, most_at_once: int = MOST_AT_ONCE) -> None:
        self._most_at_once = most_at_once
        self._at_once = 0
        self._waiting: asyncio.Queue[_Copy] = asyncio.Queue()
        self._spent: dict[str, RollingSum] = {}
        self._dropped: Counter[Dropped] = Counter()

    def offer(self, copy: _Copy, *, rule: str, most_per_day: Nanodollars | None, at_s: float) -> bool:
        """Let it wait for its turn; False, and counted, when there are too many, or when the copies of this rule
        (`spill_key`) have spent their cap within the last 24 hours. Never waits."""
        if most_per_day is not None and self.spent(rule, at_s=at_s) >= most_per_day:
            self.drop(Dropped.CAPPED)
            return False
        if self._at_once >= self._most_at_once:
            self.drop(Dropped.CROWDED)
            return False
        self._at_once += 1
        self._waiting.put_nowait(copy)
        return True

    async def next(self) -> _Copy:
        """The one that has waited longest; waits while there is none."""
        return await self._waiting.get()

    def ended(self, *, rule: str, charge: Nanodollars, at_s: float) -> None:
        """A copy that `next` gave has come to its end, and cost so much."""
        self._at_once -= 1
        if charge:
            counted = self._spent.get(rule)
            if counted is None:
                self._spent = {name: each for name, each in self._spent.items() if each.total(at_s=at_s)}
                counted = self._spent[rule] = RollingSum(span_s=DAY_S, step_s=STEP_S)
            counted.add(charge, at_s=at_s)

    def drop(self, reason: Dropped) -> None:
        """Count a copy that is not sent."""
        self._dropped[reason] += 1

    def spent(self, rule: str, *, at_s: float) -> Nanodollars:
        """What the copies of this rule have cost within the last 24 hours, and at most a quarter of an hour more."""
        counted = self._spent.get(rule)
        return Nanodollars(0 if counted is None else counted.total(at_s=at_s))

    def dropped(self) -> Mapping[str, int]:
        """Copies that were not sent, by reason, since this process began."""
        return {reason.value: self._dropped[reason] for reason in Dropped}
