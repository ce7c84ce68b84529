"""Revisions on their way into the history: written down when Postgres is there, kept in memory until then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, Protocol

from app.ports import BooksAway, PolicyHistory, Revision, RowsRefused

AGAIN_AFTER_S: Final = 1.0
#: Edits that are kept while Postgres is away; after these the oldest goes.
MOST: Final = 100


class Forgotten(Protocol):
    """Is told of a revision that will never be written down."""

    def __call__(self, digest: str, *, because: str) -> None: ...


class PolicyMemory:
    """`add` never waits; `keep` writes down, for ever."""

    def __init__(self, history: PolicyHistory, *, forgotten: Forgotten) -> None:
        self._history = history
        self._forgotten = forgotten
        self._waiting: dict[str, Revision] = {}
        self._there_is_some = asyncio.Event()

    def add(self, revision: Revision) -> None:
        """To be written down; one that waits already only learns that it came in force."""
        waiting = self._waiting.get(revision.digest)
        if waiting is not None:
            revision = replace(waiting, in_force_at_s=waiting.in_force_at_s or revision.in_force_at_s)
        self._waiting[revision.digest] = revision
        if len(self._waiting) > MOST:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            self._forgotten(oldest, because=f"Postgres was away for more than {MOST} edits")
        self._there_is_some.set()

    async def keep(self, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Write down what waits, oldest first, until cancelled."""
        while True:
            while self._waiting:
                await self._write_down(pause)
            self._there_is_some.clear()
            await self._there_is_some.wait()

    async def _write_down(self, pause: Callable[[float], Awaitable[None]]) -> None:
        digest, revision = next(iter(self._waiting.items()))
        try:
            await self._history.remember(revision)
        except BooksAway:
            await pause(AGAIN_AFTER_S)
            return
        except RowsRefused as fault:
            self._forgotten(digest, because=str(fault))
        # It may have come in force meanwhile; then it is written down once more.
        if self._waiting.get(digest) is revision:
            del self._waiting[digest]
