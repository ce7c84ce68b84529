"""One bound around all work for one caller: the total timeout, and the caller's own leaving."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

#: Leashes are looked at this often, so that one may last so much longer than it was made for. One timer for all of
#: them: of a thousand requests hardly one ever runs into its total timeout.
LOOK_EVERY_S = 0.25


class Leashes:
    """The leashes of one process. Belongs to one event loop, the one it is first used on."""

    __slots__ = ("_loop", "_out", "_timer")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._out: dict[Leash, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def leash(self, total_s: float) -> Leash:
        """A new leash, to be entered once."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        return Leash(total_s, loop=loop, leashes=self)

    def took(self, leash: Leash) -> None:
        """A leash was entered."""
        self._out[leash] = None
        if self._timer is None:
            self._timer = leash.loop.call_later(LOOK_EVERY_S, self._look)

    def left(self, leash: Leash) -> None:
        """It was left again."""
        del self._out[leash]

    def _look(self) -> None:
        self._timer = None
        if self._out:
            assert self._loop is not None, "whoever took a leash set the loop"
            now_s = self._loop.time()
            for leash in [leash for leash in self._out if leash.ends_at_s <= now_s]:
                leash.end()
            self._timer = self._loop.call_later(LOOK_EVERY_S, self._look)


class Leash:
    """`async with leashes.leash(total_s)`: the body is cancelled and TimeoutError raised when time is up or `pull` was
    called.

    What comes after the block is outside: neither the clock nor the caller can cancel it. Pulling a leash that has
    been left does nothing; pulling one that has not been entered cancels the body at its first wait.
    """

    __slots__ = ("_cancelling", "_entered", "_leashes", "_task", "_total_s", "ends_at_s", "expired", "loop", "pulled")

    def __init__(self, total_s: float, *, loop: asyncio.AbstractEventLoop, leashes: Leashes) -> None:
        self.loop = loop
        #: Of the loop's clock.
        self.ends_at_s = 0.0
        #: True once the body was cancelled by this leash, for either cause.
        self.expired = False
        self.pulled = False
        self._total_s = total_s
        self._leashes = leashes
        self._entered = False
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0

    @property
    def left_s(self) -> float:
        """What is left of its time, while it is entered."""
        return self.ends_at_s - self.loop.time()

    def pull(self) -> None:
        """The caller left."""
        self.pulled = True
        self.end()

    def end(self) -> None:
        """Cancel the body, if it is under way and has not been cancelled before."""
        if self._entered and not self.expired and self._task is not None:
            self.expired = True
            self._task.cancel()

    async def __aenter__(self) -> Self:
        task = asyncio.current_task(self.loop)
        assert task is not None, "a leash is entered by a task"
        self._task = task
        self._cancelling = task.cancelling()
        self._entered = True
        self.ends_at_s = self.loop.time() + self._total_s
        self._leashes.took(self)
        if self.pulled:
            self.end()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False
        self._leashes.left(self)
        task, self._task = self._task, None
        if not self.expired or task is None:
            return
        ours_alone = task.uncancel() <= self._cancelling
        if ours_alone and kind is asyncio.CancelledError:
            raise TimeoutError from fault
