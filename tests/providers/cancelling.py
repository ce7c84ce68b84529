"""Cancels a task in the very turn of the loop in which something comes for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from app.providers.http import PooledClient


async def cancelled_as_it_comes(client: PooledClient, coming: bytes, doing: Coroutine[Any, Any, object]) -> None:
    """Cancel when `coming` has reached a connection of the client: its reader is about to wake, and never gets it."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(doing)

    def look() -> None:
        if any(coming in b"".join(connection._chunks) for connection in client._all):
            task.cancel()
        elif not task.done():
            loop.call_soon(look)

    loop.call_soon(look)
    with pytest.raises(asyncio.CancelledError):
        await task
