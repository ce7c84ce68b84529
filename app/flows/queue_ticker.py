"""Somebody looks at the queues now and then while anybody waits: what time alone changes is noticed so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

#: A place that nobody's end made free (another process's, a raised limit), a target that began to serve another model,
#: a stop: whoever waits hears of it within this time.
LOOK_EVERY_S: Final = 0.25


class QueueTicker:
    """One of a process. Belongs to one event loop."""

    __slots__ = ("_timer",)

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, look: Callable[[], bool]) -> None:
        """Call `look` again and again until it says that nobody waits; nothing where that is under way."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look, look)

    def _look(self, look: Callable[[], bool]) -> None:
        self._timer = None
        if look():
            self.watch(look)
