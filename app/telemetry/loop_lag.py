"""The event loop's watchdog: asks to be woken and says by how much it was late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from app.ports import Clock

EVERY_S: Final = 0.25


async def watch_loop(
    lagged: Callable[[float], None],
    *,
    clock: Clock,
    every_s: float = EVERY_S,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Tell `lagged`, for ever, until cancelled, how many seconds late each wake-up came."""
    while True:
        asked_s = clock.monotonic_s()
        await pause(every_s)
        lagged(max(0.0, clock.monotonic_s() - asked_s - every_s))
