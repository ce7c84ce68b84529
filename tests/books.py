"""Databases with the books in them: one is migrated for the whole run, and each test gets a copy of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.storage.embedded import EmbeddedPostgres
from app.storage.engine import Database
from app.storage.migrate import migrate
from tests.makers import NOON
from tests.postgres import FreshDatabases

TEMPLATE = "migrated_books"


@pytest.fixture(scope="session")
def migrated(postgres: EmbeddedPostgres) -> str:
    """The name of a database with every migration, and partitions for the month of NOON and the next two."""
    postgres.ensure_database(TEMPLATE)
    asyncio.run(migrate(postgres.url(TEMPLATE), now=NOON))
    return TEMPLATE


@pytest.fixture
async def books_url(migrated: str, fresh_database: FreshDatabases) -> str:
    """A migrated and empty database of this test's own."""
    return await fresh_database(migrated)


@pytest.fixture
async def database(books_url: str) -> AsyncIterator[Database]:
    """The same, open."""
    async with Database(books_url) as opened:
        yield opened


async def said(url: str, statement: str, *values: object) -> list[asyncpg.Record]:
    """What the database answers to one statement, on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(statement, *values))
    finally:
        await connection.close()


class Reachable:
    """Takes one database of a running server away and brings it back."""

    def __init__(self, url: str) -> None:
        self._name = url.removeprefix("postgresql://postgres@/").partition("?")[0]
        self._server_url = url.replace(f"/{self._name}?", "/postgres?")

    async def take_away(self) -> None:
        await said(self._server_url, f'alter database "{self._name}" with allow_connections false')
        await said(
            self._server_url,
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1",
            self._name,
        )

    async def bring_back(self) -> None:
        await said(self._server_url, f'alter database "{self._name}" with allow_connections true')


async def prefers(url: str, setting: str, value: str) -> None:
    """From now on this database would have every new session begin with this setting."""
    connection = await asyncpg.connect(url, server_settings={"statement_timeout": "0"})
    try:
        name = await connection.fetchval("select quote_ident(current_database())")
        await connection.execute(f"alter database {name} set {setting} = '{value}'")
    finally:
        await connection.close()
