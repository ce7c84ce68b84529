"""`app.storage.rights`: finance reads views and nothing else, the gateway cannot rewrite the ledger."""

from __future__ import annotations

import asyncpg
import pytest

from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.migrate import migrate
from app.storage.rights import APP_ROLE, FINANCE_ROLE
from tests.books import said
from tests.makers import NOON
from tests.ports.ledger_book_suite import receipt, rows
from tests.postgres import own_server


async def _as_role(url: str, role: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"set role {role}")
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


async def _relations(url: str, kinds: str) -> list[str]:
    rows_of = await said(
        url,
        "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind::text = any ($1)",
        list(kinds),
    )
    return [row["relname"] for row in rows_of]


async def test_finance_reads_every_view_and_no_table(database: Database, books_url: str) -> None:
    await PostgresLedgerBook(database).book(rows([receipt(1)]))
    views = [name for name in await _relations(books_url, "v") if name.startswith("finance_")]
    assert {"finance_usage", "finance_attempts", "finance_journal", "finance_months", "finance_budgets"} <= set(views)
    for view in views:
        await _as_role(books_url, FINANCE_ROLE, f"select * from {view}")
    assert len(await _as_role(books_url, FINANCE_ROLE, "select * from finance_attempts")) == 1
    for table in await _relations(books_url, "rp"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await _as_role(books_url, FINANCE_ROLE, f"select * from {table}")


@pytest.mark.parametrize(
    "statement",
    [
        "insert into finance_usage (team) values ('x')",
        "update finance_attempts set team = 'x'",
        "delete from finance_months",
        "select budget_sweep()",
        "create table mine (n integer)",
    ],
)
async def test_finance_changes_nothing(books_url: str, statement: str) -> None:
    with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ObjectNotInPrerequisiteStateError)):
        await _as_role(books_url, FINANCE_ROLE, statement)


@pytest.mark.parametrize("table", ["receipt", "attempt", "entry", "posting", "adjustment", "month_seal", "month_close"])
@pytest.mark.parametrize(
    "act", ["delete from {}", "truncate {}", "alter table {} disable trigger all", "drop table {}"]
)
async def test_the_gateways_role_has_no_right_to_rewrite_the_ledger(books_url: str, table: str, act: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await _as_role(books_url, APP_ROLE, act.format(table))


async def test_the_gateways_role_can_book(books_url: str) -> None:
    name = books_url.removeprefix("postgresql://postgres@/").partition("?")[0]
    await said(books_url, f"alter role {APP_ROLE} login")
    try:
        async with Database(books_url.replace("postgres@", f"{APP_ROLE}@", 1)) as database:
            book = PostgresLedgerBook(database)
            assert [await book.book(rows([receipt(1)])) for _ in range(2)] == [1, 0]
            assert await book.find(receipt(1).request_id) == receipt(1)
    finally:
        await said(books_url.replace(f"/{name}?", "/postgres?"), f"alter role {APP_ROLE} nologin")


async def test_an_owner_who_may_make_no_roles_migrates_all_the_same_and_grants_once_they_are_there() -> None:
    with own_server() as own:
        everything = own.server.url("postgres")
        await said(everything, "create role plain login")
        await said(everything, "create database books owner plain")
        url = own.server.url("books").replace("postgres@", "plain@", 1)
        for _ in range(2):
            await migrate(url, now=NOON)
        assert await said(everything, "select 1 from pg_roles where rolname like 'breakeven%'") == []

        for role in (APP_ROLE, FINANCE_ROLE):
            await said(everything, f"create role {role} nologin")
        await migrate(url, now=NOON)
        books = own.server.url("books")
        assert await _as_role(books, FINANCE_ROLE, "select * from finance_usage") == []
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await _as_role(books, FINANCE_ROLE, "select * from usage_hour")
