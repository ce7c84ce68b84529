"""May one more request begin? So many at once and no more, and none while this process cannot keep up with itself."""

from __future__ import annotations

from typing import Final

#: A process whose event loop is so late takes nothing new on: what it has would only get slower.
LAG_MOST_S: Final = 3.0
#: What was said of the loop is believed for so long.
LAG_KNOWN_S: Final = 2.0


class Admission:
    """Counts the requests of one process. Times are of one monotonic clock."""

    __slots__ = ("_lag_s", "_lagged_at_s", "_most", "in_flight", "shed", "stopping")

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._lag_s = 0.0
        self._lagged_at_s = 0.0
        self.in_flight = 0
        #: Requests that were turned away, since the process started.
        self.shed = 0
        #: The process is on its way out: it serves what still comes, and tells whoever asks to go elsewhere.
        self.stopping = False

    def enter(self, *, at_s: float) -> str | None:
        """A request wants to begin: None, and it is counted until `leave`; or why it may not, in a sentence."""
        why = None
        if self.in_flight >= self._most:
            why = f"this gateway process answers {self.in_flight} requests already, and {self._most} are its most"
        elif self._lag_s > LAG_MOST_S and at_s - self._lagged_at_s < LAG_KNOWN_S:
            why = f"this gateway process is {self._lag_s:.1f} s late with what it does already"
        if why is None:
            self.in_flight += 1
        else:
            self.shed += 1
        return why

    def leave(self) -> None:
        """A request that was counted has ended."""
        self.in_flight -= 1

    def stops(self) -> None:
        """From now on this process is on its way out."""
        self.stopping = True

    def lagged(self, lag_s: float, *, at_s: float) -> None:
        """The event loop woke its watcher so much later than asked for."""
        self._lag_s, self._lagged_at_s = lag_s, at_s
