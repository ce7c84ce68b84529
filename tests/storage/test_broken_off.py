"""Transactions that the server breaks off: in a deadlock, for an order that does not fit, for want of time. Nothing is
half done, what may succeed soon is tried again, and a database's own wishes make none of our statements wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from time import monotonic
from typing import TypeVar

import asyncpg
import pytest

from app.ports import BooksAway
from app.storage import engine
from app.storage.budget_book import PostgresBudgetBook
from app.storage.engine import PAUSES_S, BrokenOff, Database, again_when_broken_off
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.migrate import migrate
from app.storage.receipt_json import encode
from tests.books import prefers, said
from tests.makers import NOON
from tests.ports.budget_book_suite import a_budget, told, wanting
from tests.postgres import FreshDatabases
from tests.storage.test_budget_book import WRONG, until_waiting

_T = TypeVar("_T")
#: In the order of their keys, in which they are locked.
FIRST, SECOND, THIRD = THREE = sorted((a_budget(name) for name in ("a", "b", "c")), key=lambda budget: budget.account)
LOCK = "select 1 from budget_account where account = $1 for update"
#: The server looks for a circle after so long, once for each wait.
LOOKS_AFTER = "50ms"
ISOLATIONS = ("serializable", "repeatable read")


@asynccontextmanager
async def somebody(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Another session, in a transaction that is undone at the end; in a deadlock it is never the one to go, and it has
    the time that its database gives nobody."""
    connection = await asyncpg.connect(url, server_settings={"statement_timeout": "0", "lock_timeout": "0"})
    try:
        await connection.execute("set deadlock_timeout = '1h'")
        await connection.execute("begin")
        yield connection
    finally:
        await connection.close()


async def met_by_a_deadlock(url: str, call: Callable[[], Awaitable[_T]]) -> _T:
    """What `call` says, which locks all three accounts. It waits for the second when somebody begins to wait for the
    first and holds the third: so it is the last to close the circle, finds it, and is broken off."""
    async with somebody(url) as other, somebody(url) as gate:
        await gate.execute(LOCK, SECOND.account)
        await other.execute(LOCK, THIRD.account)
        ours = asyncio.ensure_future(call())
        await until_waiting(url)
        theirs = asyncio.ensure_future(other.execute(LOCK, FIRST.account))
        await until_waiting(url, 2)
        await gate.close()
        await theirs
    return await ours


async def deadlocks(url: str) -> int:
    """So many were found in this database: one, or more where the other had not come by when ours tried again."""
    async with asyncio.timeout(20):
        while True:
            (row,) = await said(url, "select deadlocks from pg_stat_database where datname = current_database()")
            if row["deadlocks"]:
                return int(row["deadlocks"])
            await asyncio.sleep(0.05)


@pytest.fixture
async def circles_url(books_url: str) -> str:
    """Books with the three accounts, in a database that looks for circles soon."""
    await prefers(books_url, "deadlock_timeout", LOOKS_AFTER)
    async with Database(books_url) as database:
        await PostgresBudgetBook(database).lease([wanting(budget) for budget in THREE], holder="h")
    return books_url


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the other takes to come by, there is a try after it."""
    monkeypatch.setattr(engine, "PAUSES_S", (0.1, 2.0, 20.0))


@pytest.mark.usefixtures("patient")
async def test_a_lease_that_a_deadlock_breaks_off_is_granted_at_another_try_and_once(circles_url: str) -> None:
    wanted = [wanting(budget, need=100) for budget in THREE]
    async with Database(circles_url) as database:
        book = PostgresBudgetBook(database)
        answers = await met_by_a_deadlock(circles_url, lambda: book.lease(wanted, holder="h"))
        assert [(answer.granted, answer.standing.leased) for answer in answers] == [(100, 100)] * 3
    assert 1 <= await deadlocks(circles_url) <= len(PAUSES_S)


@pytest.mark.usefixtures("patient")
async def test_receipts_that_a_deadlock_breaks_off_are_booked_and_spent_at_another_try_and_once(
    circles_url: str,
) -> None:
    async with Database(circles_url) as database:
        book, ledger = PostgresBudgetBook(database), PostgresLedgerBook(database)
        await book.lease([wanting(budget, need=100) for budget in THREE], holder="h")
        rows = [encode(told(number, 30, *((budget, "h", 50) for budget in THREE))) for number in (1, 2)]
        assert await met_by_a_deadlock(circles_url, lambda: ledger.book(rows)) == 2
        standings = await book.standings([wanting(budget) for budget in THREE])
        assert [each and (each.spent, each.leased, each.overrun) for each in standings] == [(60, 40, 0)] * 3
        assert await ledger.book(rows) == 0
    assert await said(circles_url, WRONG) == []
    assert 1 <= await deadlocks(circles_url) <= len(PAUSES_S)


async def test_a_transaction_that_is_broken_off_each_time_is_the_callers_to_repeat_and_left_nothing(
    circles_url: str,
) -> None:
    tries: list[float] = []
    async with Database(circles_url) as database:

        async def lease() -> None:
            tries.append(monotonic())
            async with database.connection() as connection, connection.transaction():
                await connection.execute("update budget_account set spent = spent + 1")
                # what the server itself says of a circle
                await connection.execute("do $$ begin raise exception 'a circle' using errcode = '40P01'; end $$")

        with pytest.raises(BooksAway, match="40P01: a circle"):
            await again_when_broken_off(lease)
    between = [later - earlier for earlier, later in pairwise(tries)]
    assert len(between) == len(PAUSES_S)
    assert all(waited > 0.9 * pause for waited, pause in zip(between, PAUSES_S, strict=True))
    assert {row["spent"] for row in await said(circles_url, "select spent from budget_account")} == {0}


async def test_transactions_that_fit_in_no_order_are_broken_off_and_not_the_contents_fault(circles_url: str) -> None:
    one_more = "update budget_account set spent = spent + 1"

    async def beside_another(database: Database) -> None:
        async with database.connection() as connection, connection.transaction(isolation="serializable"):
            await connection.fetch("select sum(spent) from budget_account")
            await said(circles_url, one_more)
            await connection.execute(one_more)

    async with Database(circles_url) as database:
        with pytest.raises(BrokenOff, match="40001"):
            await beside_another(database)
    assert {row["spent"] for row in await said(circles_url, "select spent from budget_account")} == {1}


@pytest.mark.parametrize(("setting", "named"), [("statement_timeout", "57014"), ("lock_timeout", "55P03")])
async def test_a_statement_that_its_database_gives_no_time_is_for_later_and_has_done_nothing(
    circles_url: str, setting: str, named: str
) -> None:
    rows = [encode(told(1, 30, *((budget, "h", 50) for budget in THREE)))]
    wanted = [wanting(budget, need=100) for budget in THREE]
    await prefers(circles_url, setting, "100ms")
    async with Database(circles_url) as database, somebody(circles_url) as other:
        book, ledger = PostgresBudgetBook(database), PostgresLedgerBook(database)
        await other.execute(LOCK, THIRD.account)
        for call in (lambda: book.lease(wanted, holder="h"), lambda: ledger.book(rows)):
            with pytest.raises(BooksAway, match=named):
                await call()
    await prefers(circles_url, setting, "0")
    async with Database(circles_url) as database:
        book, ledger = PostgresBudgetBook(database), PostgresLedgerBook(database)
        standings = await book.standings(wanted)
        assert [each and (each.spent, each.leased) for each in standings] == [(0, 0)] * 3
        assert [answer.granted for answer in await book.lease(wanted, holder="h")] == [100] * 3
        assert await ledger.book(rows) == 1
    assert await said(circles_url, WRONG) == []


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_a_database_that_prefers_another_isolation_breaks_nobody_off_and_grants_no_more_than_there_is(
    books_url: str, isolation: str
) -> None:
    await prefers(books_url, "default_transaction_isolation", isolation)
    (row,) = await said(books_url, "show transaction_isolation")
    assert row[0] == isolation
    budgets = [a_budget("all", amount=100), a_budget("team", amount=1_000, team="research")]

    async def spend(database: Database, worker: int) -> int:
        book, ledger, got = PostgresBudgetBook(database), PostgresLedgerBook(database), 0
        for number in range(12):
            holder, identity = f"{worker}-{number}", 1 + worker * 100 + number
            answers = await book.lease([wanting(budget, need=1) for budget in budgets], holder=holder)
            granted = answers[0].granted
            held = [(budget, holder, 1) for budget in budgets if granted]
            await ledger.book([encode(told(identity, granted, *held, team="research"))])
            await book.sweep()
            got += granted
        return got

    async with Database(books_url, connections_most=12) as database:
        async with database.connection() as connection, connection.transaction():
            assert await connection.fetchval("show transaction_isolation") == "read committed"
        spent = await asyncio.gather(*(spend(database, worker) for worker in range(12)))
        (standing, _) = await PostgresBudgetBook(database).standings([wanting(budget) for budget in budgets])
    assert sum(spent) == 100
    assert standing is not None
    assert (standing.spent, standing.leased, standing.overrun) == (100, 0, 0)
    assert await said(books_url, WRONG) == []


async def test_processes_that_migrate_such_a_database_at_once_wait_for_each_other(
    fresh_database: FreshDatabases,
) -> None:
    url = await fresh_database()
    await prefers(url, "default_transaction_isolation", "serializable")
    made = await asyncio.gather(*(migrate(url, now=NOON) for _ in range(4)))
    assert sorted(len(partitions) for partitions in made)[:3] == [0, 0, 0]
