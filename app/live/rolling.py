"""Sums over the last minutes or hours: what was counted is forgotten step by step."""

from __future__ import annotations

from collections import deque
from math import ceil, inf


class RollingSum:
    """The sum of what was added within `span_s`, kept by steps of `step_s`.

    It never forgets early: what it says covers the last `span_s` seconds whole, and at most `step_s` more. It never
    holds more than `span_s / step_s + 1` numbers. Times are of one monotonic clock; one that runs back counts as now.
    """

    __slots__ = ("_kept", "_step_s", "_steps", "_sum")

    def __init__(self, *, span_s: float, step_s: float) -> None:
        self._step_s = step_s
        self._steps = ceil(span_s / step_s)
        #: Pairs of a step's number and its sum, oldest first.
        self._kept: deque[list[int]] = deque()
        self._sum = 0

    def add(self, amount: int, *, at_s: float) -> None:
        """Counts `amount`, which may be negative (a correction), at `at_s`."""
        step = int(at_s // self._step_s)
        if self._kept and self._kept[-1][0] >= step:
            self._kept[-1][1] += amount
        else:
            self._forget(step)
            self._kept.append([step, amount])
        self._sum += amount

    def total(self, *, at_s: float) -> int:
        """What counts at `at_s`; never below zero."""
        self._forget(int(at_s // self._step_s))
        return max(self._sum, 0)

    def changes_after_s(self, *, at_s: float) -> float:
        """When, after `at_s`, `total` changes although nothing is added; infinity when it holds nothing then."""
        self._forget(int(at_s // self._step_s))
        return (self._kept[0][0] + self._steps + 1) * self._step_s if self._kept else inf

    def _forget(self, step: int) -> None:
        while self._kept and self._kept[0][0] < step - self._steps:
            self._sum -= self._kept.popleft()[1]
