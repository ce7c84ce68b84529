"""Who may call and how much, in one process: known in memory, kept true beside the requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from app.flows.keys import BooksWatcher, keep_fresh, keep_last_use, refresh_keys, write_last_use
from app.flows.limits import LimitGate, SentCounter
from app.live.keys import KnownKeys
from app.ports import Clock, KeyBook
from app.ports.keys import TeamBook
from app.ports.ledger import LimitBook
from app.settings import Settings
from app.storage.bell import KEYS_CHANNEL, Bell
from app.storage.engine import Database
from app.storage.key_book import PostgresKeyBook
from app.storage.limit_book import PostgresLimitBook
from app.storage.pepper import PepperFile
from app.storage.team_book import PostgresTeamBook
from app.system import RandomIds, random_bytes

#: How long the last words may take at a stop.
END_WITHIN_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Callers:
    """The keys and limits of one process, and the books they come from."""

    known: KnownKeys
    gate: LimitGate
    key_book: KeyBook
    team_book: TeamBook
    limit_book: LimitBook
    bell: Bell
    #: This process among the others.
    holder: str

    async def look(self) -> None:
        """Know what the books know now. Raises BooksAway."""
        await refresh_keys(self.key_book, self.known, teams=self.team_book, limits=self.gate.limits)

    def beside(self, *, watcher: BooksWatcher, counter: SentCounter) -> Sequence[Coroutine[Any, Any, None]]:
        """What runs beside the requests, each until cancelled."""
        return (
            keep_fresh(
                self.key_book,
                self.known,
                watcher=watcher,
                teams=self.team_book,
                limits=self.gate.limits,
                pause=self.bell.wait,
            ),
            self.bell.listen(),
            keep_last_use(self.key_book, self.known),
            self.gate.keep(self.limit_book, holder=self.holder, counter=counter),
        )

    async def end(self, *, counter: SentCounter) -> None:
        """At a stop: what is held goes back, what was used is written down. Best effort."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_WITHIN_S):
                await self.gate.give_back(self.limit_book, holder=self.holder, counter=counter)
                await write_last_use(self.key_book, self.known)


def callers(settings: Settings, url: str, database: Database, *, clock: Clock) -> Callers:
    """Nothing is known yet. `url` is the database's: listening takes a connection of its own."""
    return Callers(
        known=KnownKeys(PepperFile(settings.data / "pepper", random_bytes=random_bytes).open()),
        gate=LimitGate(clock=clock),
        key_book=PostgresKeyBook(database),
        team_book=PostgresTeamBook(database),
        limit_book=PostgresLimitBook(database),
        bell=Bell(url, channel=KEYS_CHANNEL),
        holder=RandomIds().request_id(at_us=clock.unix_us()),
    )
