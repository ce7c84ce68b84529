"""One timer for many waits: moving the moment costs an assignment, not a timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls `when_due` once the loop's clock has reached the moment last set. The timer itself is set anew only when it
    rings too early, or when the moment moves forward past it: a stream of a thousand chunks sets a handful of timers.
    """

    __slots__ = ("_at_s", "_loop", "_timer", "_when_due")

    def __init__(self, loop: asyncio.AbstractEventLoop, when_due: Callable[[], None]) -> None:
        self._loop = loop
        self._when_due = when_due
        self._at_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def move(self, at_s: float | None) -> None:
        """The moment from now on; None: no moment."""
        self._at_s = at_s
        if at_s is None:
            return
        if self._timer is None:
            self._timer = self._loop.call_at(at_s, self._rings)
        elif at_s < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(at_s, self._rings)

    def stop(self) -> None:
        """No timer is left behind."""
        self._at_s = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rings(self) -> None:
        self._timer = None
        if self._at_s is None:
            return
        if self._loop.time() >= self._at_s:
            self._at_s = None
            self._when_due()
        else:
            self._timer = self._loop.call_at(self._at_s, self._rings)
