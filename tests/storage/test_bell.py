"""`app.storage.bell` on a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.domain.errors import SetupError
from app.storage.bell import KEYS_CHANNEL, Bell
from app.storage.engine import Database
from app.storage.key_book import PostgresKeyBook
from app.storage.team_book import PostgresTeamBook
from tests.books import Reachable, said
from tests.ports.key_book_suite import a_record
from tests.ports.team_book_suite import RESEARCH

LONG_S = 30.0


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[Bell]:
    bell = Bell(url, channel=KEYS_CHANNEL)
    async with asyncio.TaskGroup() as group:
        listener = group.create_task(bell.listen(retry_s=0.05))
        await bell.wait(LONG_S)
        assert bell.is_listening
        yield bell
        listener.cancel()


async def waited_s(bell: Bell, *, within_s: float) -> float:
    began_s = time.monotonic()
    await bell.wait(within_s)
    return time.monotonic() - began_s


async def test_it_rings_for_what_changes_keys_and_teams_and_not_for_their_use(
    database: Database, books_url: str
) -> None:
    keys, teams = PostgresKeyBook(database), PostgresTeamBook(database)
    async with listening(books_url) as bell:
        for change in (keys.add(a_record("one")), keys.revoke("one", at_s=1.0), teams.add(RESEARCH)):
            await change
            assert await waited_s(bell, within_s=LONG_S) < LONG_S / 2
        await keys.used({"one": 60.0})
        assert await waited_s(bell, within_s=0.3) >= 0.29


async def test_many_rings_are_one(books_url: str) -> None:
    async with listening(books_url) as bell:
        await said(books_url, f"select pg_notify('{KEYS_CHANNEL}', n::text) from generate_series(1, 100) as n")
        await bell.wait(LONG_S)
        assert await waited_s(bell, within_s=0.3) >= 0.29


async def test_it_comes_back_with_the_server_and_rings_for_what_it_may_have_missed(books_url: str) -> None:
    reachable = Reachable(books_url)
    async with listening(books_url) as bell:
        await reachable.take_away()
        async with asyncio.timeout(LONG_S):
            while bell.is_listening:
                await asyncio.sleep(0.01)
        assert await waited_s(bell, within_s=0.2) >= 0.19
        await reachable.bring_back()
        assert await waited_s(bell, within_s=LONG_S) < LONG_S / 2
        await said(books_url, f"notify {KEYS_CHANNEL}")
        assert await waited_s(bell, within_s=LONG_S) < LONG_S / 2


async def test_a_silent_connection_is_asked_whether_it_lives(books_url: str) -> None:
    bell = Bell(books_url, channel=KEYS_CHANNEL)
    async with asyncio.TaskGroup() as group:
        listener = group.create_task(bell.listen(alive_every_s=0.02))
        await bell.wait(LONG_S)
        await asyncio.sleep(0.1)
        assert bell.is_listening
        await said(books_url, f"notify {KEYS_CHANNEL}")
        assert await waited_s(bell, within_s=LONG_S) < LONG_S / 2
        listener.cancel()


def test_a_url_of_another_kind_is_refused() -> None:
    with pytest.raises(SetupError):
        Bell("mysql://here", channel=KEYS_CHANNEL)
