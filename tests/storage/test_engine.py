"""`app.storage.engine` on a real server: killed, frozen, full, absent, and back again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.domain.errors import SetupError
from app.ports import BooksAway, RowsRefused
from app.storage.embedded import EmbeddedPostgres, status
from app.storage.engine import Database, driver_url
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.migrate import migrate
from app.storage.receipt_json import encode
from tests.makers import NOON, a_receipt
from tests.postgres import SETTINGS, chosen_binaries, open_directory

NOWHERE = "postgresql://postgres@/books?host=/nonexistent"


class Killable:
    """A server of one test module's own, that may be killed."""

    def __init__(self, directory: Path) -> None:
        self._base, self._state = directory / "base", directory / "state"
        self._server = EmbeddedPostgres(
            self._base, binaries=chosen_binaries(), settings=SETTINGS, fsync=False, state_root=self._state
        )

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        """As `kill -9` does; returns when nothing answers any more."""
        pid = status(self._base, state_root=self._state).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while self._server.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)

    def books(self, name: str) -> str:
        """The URL of a database of that name, made if need be."""
        self._server.ensure_database(name)
        return self._server.url(name)


@pytest.fixture(scope="module")
def one_server() -> Iterator[Killable]:
    with open_directory() as directory:
        server = Killable(directory)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def killable(one_server: Killable) -> Killable:
    """The module's server, up again whatever the test before did to it."""
    one_server.start()
    return one_server


async def test_a_server_that_was_killed_is_away_and_then_serves_what_it_had(killable: Killable) -> None:
    url = killable.books("killed")
    await migrate(url, now=NOON)
    async with Database(url) as database:
        book, rows = PostgresLedgerBook(database), [encode(a_receipt())]
        assert await book.book(rows) == 1
        killable.kill()
        await _is_gone(book, rows)
        for _ in range(3):
            with pytest.raises(BooksAway, match="cannot be reached"):
                await book.book(rows)
        await asyncio.to_thread(killable.start)
        assert await _first_answer(book, rows) == 0
        assert await book.find(a_receipt().request_id) == a_receipt()


async def _is_gone(book: PostgresLedgerBook, rows: list[bytes]) -> None:
    """A backend may serve on until it notices that it is alone."""
    for _ in range(100):
        try:
            await book.book(rows)
        except BooksAway:
            return
    raise AssertionError("the server was killed and serves on")


async def _first_answer(book: PostgresLedgerBook, rows: list[bytes]) -> int:
    """A pool may notice the restart with one more BooksAway for every connection it had, not more."""
    for _ in range(4):
        try:
            return await book.book(rows)
        except BooksAway:
            continue
    return await book.book(rows)


async def test_a_statement_under_way_when_the_server_dies_says_that_the_books_are_away(killable: Killable) -> None:
    async with Database(killable.books("busy")) as database:

        async def sleep() -> None:
            async with database.connection() as connection:
                await connection.execute("select pg_sleep(60)")

        sleeper = asyncio.ensure_future(sleep())
        await _is_asleep(database)
        killable.kill()
        with pytest.raises(BooksAway):
            await sleeper


async def _is_asleep(database: Database) -> None:
    for _ in range(500):
        async with database.connection() as connection:
            asleep = await connection.fetchval("select count(*) from pg_stat_activity where wait_event = 'PgSleep'")
        if asleep:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the statement never began")


async def test_a_frozen_server_is_away_in_bounded_time_and_serves_again_when_it_thaws(books_url: str) -> None:
    async with Database(books_url, command_timeout_s=0.5, connect_timeout_s=1.0, connections_most=1) as database:
        pid = await _answer(database, "select pg_backend_pid()")
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(BooksAway, match="in time"):
                async with database.connection() as connection:
                    await connection.fetchval("select 1")
            assert time.monotonic() - began < 10
        finally:
            os.kill(pid, signal.SIGCONT)
        assert await _answer(database, "select 1") == 1


async def _answer(database: Database, statement: str) -> int:
    """What a server says in the end to whoever has little time and asks again."""
    for _ in range(50):
        try:
            async with database.connection() as connection:
                return int(await connection.fetchval(statement))
        except BooksAway:
            await asyncio.sleep(0.1)
    raise AssertionError("it never served")


async def test_nothing_connects_before_it_is_needed() -> None:
    async with Database(NOWHERE) as database:
        with pytest.raises(BooksAway, match="DATABASE_URL"):
            async with database.connection():
                pass


async def test_a_pool_in_full_use_says_so_in_bounded_time(books_url: str) -> None:
    async with Database(books_url, connections_most=1, connect_timeout_s=0.2) as database:
        assert await _answer(database, "select 1") == 1  # from here on it is connected
        async with database.connection():
            with pytest.raises(BooksAway, match="in time"):
                async with database.connection():
                    pass


async def test_a_caller_who_gives_up_leaves_the_connection_usable(books_url: str) -> None:
    async with Database(books_url, connections_most=1) as database:

        async def sleep() -> None:
            async with database.connection() as connection:
                await connection.execute("select pg_sleep(30)")

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sleep(), 0.2)
        async with database.connection() as connection:
            assert await connection.fetchval("select 1") == 1


async def test_closing_cuts_off_what_does_not_end(books_url: str) -> None:
    async def sleep(database: Database) -> None:
        async with database.connection() as connection:
            await connection.execute("select pg_sleep(60)")

    async with Database(books_url, close_timeout_s=0.2) as database:
        sleeper = asyncio.ensure_future(sleep(database))
        await _is_asleep(database)
    with pytest.raises(BooksAway):
        await sleeper


async def test_days_are_utc_and_booked_means_on_disk_whatever_the_server_prefers(books_url: str) -> None:
    async with Database(books_url, application="breakeven test") as database, database.connection() as connection:
        assert await connection.fetchval("show timezone") == "UTC"
        assert await connection.fetchval("show synchronous_commit") == "on"
        assert await connection.fetchval("show application_name") == "breakeven test"
        # the server of the tests itself runs without
        assert await connection.fetchval("select boot_val from pg_settings where name = 'synchronous_commit'") == "on"
        assert await connection.fetchval("select reset_val from pg_settings where name = 'fsync'") == "off"


async def test_a_database_without_tables_names_the_command_that_makes_them(killable: Killable) -> None:
    async with Database(killable.books("bare")) as database:
        with pytest.raises(BooksAway, match="breakeven db migrate"):
            await PostgresLedgerBook(database).book([encode(a_receipt())])


async def test_a_database_that_is_not_there_is_away(killable: Killable) -> None:
    async with Database(killable.books("there").replace("/there", "/elsewhere")) as database:
        with pytest.raises(BooksAway, match="elsewhere"):
            async with database.connection():
                pass


async def test_a_value_that_no_wire_carries_is_refused(database: Database) -> None:
    with pytest.raises(RowsRefused, match="eleven"):
        async with database.connection() as connection:
            await connection.fetchval("select $1::integer", "eleven")


async def test_a_database_that_was_not_entered_says_so(books_url: str) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        async with Database(books_url).connection():
            pass


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_every_usual_spelling_of_a_url_reaches_the_driver(scheme: str) -> None:
    assert driver_url(f"{scheme}://u:p@h:1/db?host=/dir") == "postgresql://u:p@h:1/db?host=/dir"


@pytest.mark.parametrize("url", ["", "postgresql", "mysql://h/db", "/var/run/postgresql", "postgresql+psycopg://h/db"])
def test_another_kind_of_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(SetupError, match="DATABASE_URL"):
        Database(url)


async def test_a_url_with_nonsense_in_it_is_no_outage() -> None:
    async with Database("postgresql://localhost/db?sslmode=perhaps") as database:
        with pytest.raises(SetupError, match="DATABASE_URL"):
            async with database.connection():
                pass
