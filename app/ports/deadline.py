"""When waiting for an answer is over. A process that got no time itself looks once more before it blames another.

A loop that was kept from running (no processor, a suspended machine) finds its timers due before it has read what its
sockets hold. So a moment that has passed is looked at again after one turn of the loop: what had come in time counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final

#: The shortest that a timer takes on each of the loops: between it and now the sockets are read.
_A_TURN_S: Final = 0.001


class Deadline:
    """Calls `when_due` a turn of the loop after its clock has reached the moment last set. One timer for many waits: it
    is set anew only when it rings too early, or when the moment moves forward past it, so a stream of a thousand chunks
    sets a handful of timers, and moving the moment costs an assignment.
    """

    __slots__ = ("_at_s", "_loop", "_seen_s", "_timer", "_when_due")

    def __init__(self, loop: asyncio.AbstractEventLoop, when_due: Callable[[], None]) -> None:
        self._loop = loop
        self._when_due = when_due
        self._at_s: float | None = None
        #: The moment that was seen to have passed, and is looked at once more.
        self._seen_s: float | None = None
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
        if self._loop.time() < self._at_s:
            self._timer = self._loop.call_at(self._at_s, self._rings)
        elif self._seen_s != self._at_s:
            self._seen_s = self._at_s
            self._timer = self._loop.call_later(_A_TURN_S, self._rings)
        else:
            self._at_s = None
            self._when_due()


class Within:
    """`async with Within(seconds)`: as `asyncio.timeout`, which it is, but for the second look of a `Deadline`."""

    __slots__ = ("_deadline", "_limit", "_loop", "_within_s")

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(None)
        self._deadline = Deadline(self._loop, self._end)

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._deadline.move(self._loop.time() + self._within_s)

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadline.stop()
        del self._deadline  # it holds our bound method: without this, only the collector would free the two
        await self._limit.__aexit__(kind, fault, trace)

    def _end(self) -> None:
        self._limit.reschedule(self._loop.time())
