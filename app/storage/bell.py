"""A bell that Postgres rings: one connection of its own that listens, and comes back whenever the server does."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import asyncpg

from app.ports import BooksAway
from app.storage.engine import CONNECT_TIMEOUT_S, driver_url, told_in_our_words

#: What rings for keys and teams; the triggers stand in the migration `0007_keys`.
KEYS_CHANNEL: Final = "breakeven_keys"
#: A connection that was lost is looked for again after so long.
RETRY_S: Final = 1.0
#: A connection that says nothing is asked whether it lives so often: a server that vanished sends no end.
ALIVE_EVERY_S: Final = 15.0
#: Rings that come one after the other are one.
QUIET_S: Final = 0.05
_CLOSE_WITHIN_S: Final = 2.0


class Bell:
    """Rings when somebody notifies the channel, and whenever something may have been missed."""

    def __init__(self, url: str, *, channel: str, application: str = "breakeven bell") -> None:
        """`url` as `driver_url` takes it."""
        self._url = driver_url(url)
        self._channel = channel
        self._application = application
        self._rang = asyncio.Event()
        self.is_listening = False

    async def wait(self, within_s: float) -> None:
        """Returns once it rang since the last call's return, or after `within_s`, whichever comes first."""
        try:
            async with asyncio.timeout(within_s):
                await self._rang.wait()
                await asyncio.sleep(QUIET_S)
        except TimeoutError:
            pass
        self._rang.clear()

    async def listen(self, *, retry_s: float = RETRY_S, alive_every_s: float = ALIVE_EVERY_S) -> None:
        """Listen, for ever, until cancelled. While Postgres is away nothing rings: whoever waits has a poll behind."""
        while True:
            try:
                await self._listen_once(alive_every_s)
            except BooksAway:
                pass
            finally:
                self.is_listening = False
            await asyncio.sleep(retry_s)

    async def _listen_once(self, alive_every_s: float) -> None:
        """Until the connection is lost. Raises BooksAway."""
        ended = asyncio.Event()
        with told_in_our_words():
            connection: Any = await asyncpg.connect(
                self._url,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=CONNECT_TIMEOUT_S,
                server_settings={"application_name": self._application},
            )
            try:
                connection.add_termination_listener(lambda *_: ended.set())
                await connection.add_listener(self._channel, self._ring)
                self.is_listening = True
                self._rang.set()
                while not connection.is_closed():
                    try:
                        async with asyncio.timeout(alive_every_s):
                            await ended.wait()
                    except TimeoutError:
                        await connection.execute("select 1")
            finally:
                await self._close(connection)

    async def _close(self, connection: Any) -> None:
        if connection.is_closed():
            return
        try:
            await connection.close(timeout=_CLOSE_WITHIN_S)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.terminate()

    def _ring(self, *_: object) -> None:
        self._rang.set()
