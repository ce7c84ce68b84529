"""Another server may lead: a standby that took its primary's place, perhaps without the last that was booked there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from app.ports import BooksAway
from app.ports.servers import Follower, ServerBook

#: Between two looks.
LOOK_EVERY_S: Final = 2.0


async def follow_server(
    book: ServerBook,
    follower: Follower,
    *,
    notice: Callable[[str], None],
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Look for ever which server leads, at once and every few seconds. `notice` gets a sentence when it is another."""
    while True:
        with contextlib.suppress(BooksAway):
            server = await book.server()
            if follower.server_is(server):
                notice(
                    f"another Postgres server leads now ({server}): what was booked a moment before the change is sent "
                    "again, as it may lack that"
                )
        await pause(LOOK_EVERY_S)
