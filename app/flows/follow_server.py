"""Another server may lead: a standby that took its primary's place, perhaps without the last that was booked there.

One that was started anew counts as another: what is there already is only sent once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from app.ports import BooksAway
from app.ports.servers import Follower, ServerBook, ServerUnnamed

#: Between two looks.
LOOK_EVERY_S: Final = 2.0


async def follow_server(
    book: ServerBook,
    follower: Follower,
    *,
    notice: Callable[[str], None],
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Look for ever which server leads, at once and every few seconds. `notice` gets a sentence when it is another, and
    one, once, when it does not say."""
    told_unnamed = False
    while True:
        try:
            server = await book.server()
            if follower.server_is(server):
                notice(
                    f"another Postgres server leads now, or the same was started anew ({server}): what was booked a "
                    "moment before is sent again, as it may lack that"
                )
        except ServerUnnamed as fault:
            if not told_unnamed:
                told_unnamed = True
                notice(
                    f"Postgres does not say which server it is ({fault}): should a standby that lacks the last that "
                    "was booked take its place, nothing is sent to it again; let this user execute pg_control_system, "
                    "pg_current_wal_insert_lsn and pg_walfile_name"
                )
        except BooksAway:
            pass
        await pause(LOOK_EVERY_S)
