"""A straight line through samples that come one after the other, the old ones forgotten bit by bit."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Final

#: What is left of a sample's weight with each that follows: about the last hundred count.
KEEP: Final = 0.99
#: No line weighs more, however many samples it saw; a thousandth is for rounding.
WEIGHT_MOST: Final = 1.001 / (1 - KEEP)
#: Where the deviation of x is less than this part of its mean, samples lie on one spot: they show no slope.
SPREAD_LEAST: Final = 0.1
#: No measurement in seconds, sequences or tokens is larger; what is, is nonsense.
MOST: Final = 1e7


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Weighted least squares of y on x: weight, means and sums of squares about the means, kept as they come (the
    update of Welford 1962, with a weight that fades). Neither x nor y is below zero, nor are slope and intercept."""

    weight: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0

    def saw(self, *, x: float, y: float) -> Line:
        """With one more sample. One that is no number, below zero or absurd changes nothing."""
        if not (_is_sane(x) and _is_sane(y)):
            return self
        before = KEEP * self.weight
        weight = before + 1.0
        dx, dy = x - self.x, y - self.y
        share = before / weight
        return Line(
            weight=weight,
            x=self.x + dx / weight,
            y=self.y + dy / weight,
            xx=KEEP * self.xx + share * dx * dx,
            xy=KEEP * self.xy + share * dx * dy,
        )

    def faded(self, share: float) -> Line:
        """With samples that count only for so much of what they did: the same line, which new ones move sooner."""
        return Line(weight=share * self.weight, x=self.x, y=self.y, xx=share * self.xx, xy=share * self.xy)

    @property
    def is_sane(self) -> bool:
        """Samples may have made it: one that comes from elsewhere may be nonsense, and reckoning with it overflow."""
        if not (0 <= self.weight <= WEIGHT_MOST and _is_sane(self.x) and _is_sane(self.y)):
            return False
        if not 0 <= self.xx <= self.weight * MOST**2 or not abs(self.xy) <= MOST * sqrt(self.weight * self.xx):
            return False
        return all(0 <= number <= MOST**2 for number in self.slope_and_intercept)

    @property
    def has_spread(self) -> bool:
        """Its samples lie far enough apart to show a slope."""
        return self.weight > 0 and self.xx > self.weight * (SPREAD_LEAST * self.x) ** 2

    @property
    def slope_and_intercept(self) -> tuple[float, float]:
        """The best line among those that rise and begin at zero or above. Without spread it is taken to begin at zero.
        Without a sample it is zero."""
        if self.has_spread:
            slope = self.xy / self.xx
            if slope <= 0:
                return 0.0, self.y
            if (intercept := self.y - slope * self.x) >= 0:
                return slope, intercept
        square = self.xx + self.weight * self.x * self.x
        if square == 0:
            return 0.0, self.y
        return max(0.0, (self.xy + self.weight * self.x * self.y) / square), 0.0


NO_SAMPLES: Final = Line()


def _is_sane(number: float) -> bool:
    return isfinite(number) and 0 <= number <= MOST
