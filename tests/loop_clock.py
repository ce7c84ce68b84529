"""The clock of Python's own event loop, put forward by hand: time passes for its timers, and no test waits for it."""

from __future__ import annotations

import asyncio


class LoopClock:
    """From now on the running loop's clock is ahead of the real one by all that `pass_s` was given."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        real = loop.time
        self._ahead_s = 0.0
        loop.time = lambda: real() + self._ahead_s  # type: ignore[method-assign]

    async def pass_s(self, seconds: float) -> None:
        """What is due by then has rung when it returns; a `Deadline`, which looks twice, a millisecond later."""
        self._ahead_s += seconds
        for _ in range(2):
            await asyncio.sleep(0)
