"""How many further attempts this process may make: a share of its requests and a floor, so that an outage of every
target does not multiply the traffic to them (Finagle's retry budget, with its defaults)."""

from __future__ import annotations

from typing import Final

from app.live.rolling import RollingSum

#: Further attempts for each hundred requests of the window …
SHARE_PERCENT: Final = 20
#: … and so many a second besides, for whoever has little traffic.
FLOOR_PER_S: Final = 10
WINDOW_S: Final = 10.0
_STEP_S: Final = 1.0


class RetryBudget:
    """One process's. Times are of one monotonic clock."""

    __slots__ = ("_requests", "_retries", "refused")

    def __init__(self) -> None:
        self._requests = RollingSum(span_s=WINDOW_S, step_s=_STEP_S)
        self._retries = RollingSum(span_s=WINDOW_S, step_s=_STEP_S)
        #: Attempts that were not made, since the process started.
        self.refused = 0

    def asked(self, *, at_s: float) -> None:
        """A request begins: its first attempt is no retry."""
        self._requests.add(1, at_s=at_s)

    def take(self, *, at_s: float) -> bool:
        """May one more attempt be made? True counts it."""
        most = self._requests.total(at_s=at_s) * SHARE_PERCENT / 100 + FLOOR_PER_S * WINDOW_S
        if self._retries.total(at_s=at_s) + 1 > most:
            self.refused += 1
            return False
        self._retries.add(1, at_s=at_s)
        return True

    def put_back(self, *, at_s: float) -> None:
        """An attempt that was taken a moment ago was not made after all."""
        self._retries.add(-1, at_s=at_s)
