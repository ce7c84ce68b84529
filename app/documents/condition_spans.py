"""What a value can still be, after comparisons with constants."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Any

#: What a constant is compared with: `in` and `out` take a set of values, the others one value.
Operator = str
_OPPOSITES = {"in": "out", "out": "in", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


def opposite(operator: Operator) -> Operator:
    """The operator that is true exactly where this one is not."""
    return _OPPOSITES[operator]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A set of values of one kind: those of `only`, or else all between two bounds (None: no bound) but `without`.

    It may seem to have values where it has none (no number lies between two neighbours), never the other way round.
    Numbers that are not one (NaN) are not thought of. Values fit into a double exactly.
    """

    only: frozenset[Any] | None = None
    low: Any = None
    high: Any = None
    low_is_out: bool = False
    high_is_out: bool = False
    without: frozenset[Any] = frozenset()
    #: Whole numbers only; the bounds are whole numbers then, and in.
    is_whole: bool = False

    def narrowed(self, operator: Operator, value: Any) -> Span | None:
        """Its values that compare so with `value`: None when none does, itself when it is plain that all do."""
        if self.only is not None or operator == "in":
            return self._chosen(operator, value)
        if operator == "out":
            out = frozenset(one for one in value if self.has(one))
            return self._bounded(without=self.without | out) if out else self
        if operator in (">", ">="):
            return self._raised(value, is_out=operator == ">")
        return self._lowered(value, is_out=operator == "<")

    def has(self, value: Any) -> bool:
        """True when the value is one of them."""
        if self.only is not None:
            return value in self.only
        if value in self.without or (self.is_whole and value != int(value)):
            return False
        if self.low is not None and (value < self.low or (self.low_is_out and value == self.low)):
            return False
        return self.high is None or not (value > self.high or (self.high_is_out and value == self.high))

    def _chosen(self, operator: Operator, value: Any) -> Span | None:
        only = self.only
        if only is None:
            chosen = frozenset(one for one in value if self.has(one))
        elif operator == "in":
            chosen = only & value
        elif operator == "out":
            chosen = only - value
        else:
            chosen = frozenset(one for one in only if _is_true(one, operator, value))
        if only is not None and len(chosen) == len(only):
            return self
        return Span(only=chosen) if chosen else None

    def _raised(self, low: Any, *, is_out: bool) -> Span | None:
        if self.is_whole:
            low, is_out = (floor(low) + 1 if is_out else ceil(low)), False
        if self.low is not None and (low, is_out) <= (self.low, self.low_is_out):
            return self
        return self._bounded(low=(low, is_out))

    def _lowered(self, high: Any, *, is_out: bool) -> Span | None:
        if self.is_whole:
            high, is_out = (ceil(high) - 1 if is_out else floor(high)), False
        if self.high is not None and (high > self.high or (high == self.high and is_out <= self.high_is_out)):
            return self
        return self._bounded(high=(high, is_out))

    def _bounded(
        self,
        *,
        low: tuple[Any, bool] | None = None,
        high: tuple[Any, bool] | None = None,
        without: frozenset[Any] | None = None,
    ) -> Span | None:
        """It, with something changed; None when nothing is left. Whole numbers that are out move their bound."""
        lowest, low_is_out = low or (self.low, self.low_is_out)
        highest, high_is_out = high or (self.high, self.high_is_out)
        out = self.without if without is None else without
        if self.is_whole and out:
            while lowest in out and (highest is None or lowest <= highest):
                lowest += 1
            while highest in out and (lowest is None or highest >= lowest):
                highest -= 1
        is_between = lowest is not None and highest is not None
        if is_between and lowest == highest and (low_is_out or high_is_out or lowest in out):
            return None
        if is_between and lowest > highest:
            return None
        return Span(
            low=lowest,
            high=highest,
            low_is_out=low_is_out,
            high_is_out=high_is_out,
            without=out,
            is_whole=self.is_whole,
        )


def _is_true(one: Any, operator: Operator, value: Any) -> bool:
    match operator:
        case "<":
            return bool(one < value)
        case "<=":
            return bool(one <= value)
        case ">":
            return bool(one > value)
    return bool(one >= value)
