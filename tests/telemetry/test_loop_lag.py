from __future__ import annotations

import asyncio
import time

from app.system import SystemClock
from app.telemetry.loop_lag import watch_loop


async def test_a_blocked_event_loop_shows_in_the_lag() -> None:
    lags: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        watcher = tasks.create_task(watch_loop(lags.append, clock=SystemClock(), every_s=0.01))
        await asyncio.sleep(0.02)
        lags.clear()
        await asyncio.sleep(0)
        time.sleep(0.2)  # somebody blocks the loop
        await asyncio.sleep(0.05)
        watcher.cancel()
    assert max(lags) > 0.1


async def test_waking_early_is_no_lag() -> None:
    class StandingClock:
        def monotonic_s(self) -> float:
            return 5.0

        def unix_us(self) -> int:
            return 0

    lags: list[float] = []

    async def pause(seconds: float) -> None:
        if len(lags) == 3:
            raise asyncio.CancelledError
        await asyncio.sleep(0)

    task = asyncio.get_running_loop().create_task(watch_loop(lags.append, clock=StandingClock(), pause=pause))
    await asyncio.wait([task])
    assert task.cancelled()
    assert lags == [0.0, 0.0, 0.0]
