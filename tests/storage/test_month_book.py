"""`app.storage.month_book`, `app.storage.month_statements`: closed months never change, what is late counts later."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import pytest

from app.domain.ledger.month import Month, closed_month
from app.domain.ledger.receipt import Receipt
from app.domain.ledger.report import CostQuery, Dimension, compiled
from app.domain.money import Nanodollars
from app.flows.month_close import close_month, verify_months
from app.storage.adjustment_book import PostgresAdjustmentBook
from app.storage.budget_statements import SPENT
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.month_book import PostgresMonthBook
from app.storage.month_statements import PARTS
from app.storage.receipt_json import encode
from app.storage.report_book import PostgresReportBook
from tests.books import said
from tests.makers import a_receipt, an_attempt, some_facts
from tests.ports.adjustment_book_suite import a_correction
from tests.ports.ledger_book_suite import request_id

OCTOBER = Month(year=2026, number=10)
HOUR_US = 3_600_000_000


def a_receipt_of_october(number: int, *, charge: int = 100) -> Receipt:
    return _receipt(number, charge=charge, at_us=int(OCTOBER.begin.timestamp() * 1e6) + number * HOUR_US)


def _receipt(number: int, *, charge: int, at_us: int) -> Receipt:
    identity = request_id(number)
    attempt = an_attempt(attempt_id=f"{identity}/1", charge=Nanodollars(charge))
    return a_receipt(attempt, request_id=identity, at_us=at_us, facts=some_facts(request_id=identity))


async def _book(database: Database, *receipts: Receipt) -> int:
    return await PostgresLedgerBook(database).book([encode(receipt) for receipt in receipts])


async def _charged(database: Database, *, since: datetime, until: datetime) -> int:
    """What a report says, proved."""
    total = 0
    for by in ((Dimension.TEAM,), (Dimension.KEY,)):
        query = CostQuery(since=since, until=until, by=by)
        books = await PostgresReportBook(database).read(query)
        total = compiled(
            query=query, lines=books.lines, by_hosting=books.by_hosting, ledger_charge=books.ledger_charge
        ).total.charge
    return total


async def test_a_closed_month_is_as_it_was_whatever_comes_after(database: Database) -> None:
    book = PostgresMonthBook(database)
    await _book(database, *(a_receipt_of_october(number) for number in range(5)))
    closed = (await close_month(book, OCTOBER, by="me")).closed
    assert [(part.name, part.rows, part.amount) for part in closed.parts] == [
        ("receipts", 5, 500),
        ("attempts", 5, 500),
        ("adjustments", 0, 0),
        ("postings", 2, 0),
    ]
    assert await _book(database, a_receipt_of_october(9), _receipt(77, charge=1, at_us=a_receipt().at_us)) == 2
    await PostgresAdjustmentBook(database).adjust([a_correction(1)])
    assert [each.faults for each in await verify_months(book)] == [()]
    assert await _charged(database, since=OCTOBER.begin, until=OCTOBER.end) == 500


async def test_what_is_late_for_a_closed_month_counts_when_it_is_booked(database: Database, books_url: str) -> None:
    book = PostgresMonthBook(database)
    await _book(database, a_receipt_of_october(1))
    await close_month(book, OCTOBER, by="me")
    late = a_receipt_of_october(2, charge=7)
    assert [await _book(database, late) for _ in range(2)] == [1, 0]
    assert await PostgresLedgerBook(database).find(late.request_id) == late
    await PostgresAdjustmentBook(database).adjust([a_correction(1, amount=-30)])
    for table in ("receipt", "attempt"):
        (row,) = await said(books_url, f"select at, booked_for, booked_at from {table} where booked_for is not null")
        assert row["at"] < OCTOBER.end <= row["booked_for"]
    (row,) = await said(books_url, "select at, booked_for from adjustment")
    assert row["at"] < OCTOBER.end <= row["booked_for"]
    assert await _charged(database, since=OCTOBER.begin, until=OCTOBER.end) == 100
    assert await _charged(database, since=OCTOBER.end, until=datetime(2040, 1, 1, tzinfo=UTC)) == 7 - 30
    await _spent_is(books_url, until=OCTOBER.end, amount=100 + 7 - 30)


async def _spent_is(url: str, *, until: datetime, amount: int) -> None:
    """A budget counts a receipt at its own moment, wherever it is booked; a period with odd edges, too."""
    team, key = a_receipt().facts.caller.team, a_receipt().facts.caller.key_id
    tag = a_receipt().facts.caller.tags[0] if a_receipt().facts.caller.tags else None
    scopes = [(None, None, None), (team, None, None), (None, key, None), (None, None, tag)]
    for begin in (OCTOBER.begin, OCTOBER.begin.replace(minute=30)):
        for of_team, of_key, of_tag in scopes:
            ((spent,),) = await said(url, SPENT, begin, until, of_team, None, of_key, None, of_tag)
            assert spent == amount
        ((later,),) = await said(url, SPENT, until, datetime(2040, 1, 1, tzinfo=UTC), team, None, None, None, None)
        assert later == 0


async def test_a_correction_of_an_open_month_counts_in_it(database: Database, books_url: str) -> None:
    await _book(database, a_receipt_of_october(1))
    await PostgresAdjustmentBook(database).adjust([a_correction(1, amount=-30)])
    assert await _charged(database, since=OCTOBER.begin, until=OCTOBER.end) == 70
    await _spent_is(books_url, until=OCTOBER.end, amount=70)
    closed = (await close_month(PostgresMonthBook(database), OCTOBER, by="me")).closed
    assert [part.amount for part in closed.parts] == [100, 100, -30, 0]


@pytest.mark.parametrize(
    "statement",
    [
        f"""
        insert into receipt
        select (jsonb_populate_record(one, '{{"request_id": "{request_id(99)}"}}')).* from receipt one
        """,
        """insert into attempt select (jsonb_populate_record(one, '{"attempt_id": "forged"}')).* from attempt one""",
        """
        insert into adjustment select (jsonb_populate_record(one, '{"adjustment_id": "forged"}')).* from adjustment one
        """,
        "insert into entry (month, kind, description) values ('2026-10-01', 'attempts', 'forged')",
        "insert into posting select entry_id, side, n from entry, (values ('x', 1), ('y', -1)) as v (side, n)",
    ],
)
async def test_nothing_is_written_into_a_closed_month_by_hand(
    database: Database, books_url: str, statement: str
) -> None:
    await _book(database, a_receipt_of_october(1))
    await PostgresAdjustmentBook(database).adjust([a_correction(1)])
    await close_month(PostgresMonthBook(database), OCTOBER, by="me")
    with pytest.raises(asyncpg.RestrictViolationError, match="closed"):
        await said(books_url, statement)


@pytest.mark.parametrize("table", ["entry", "posting", "adjustment", "month_seal", "month_close", "attempt", "receipt"])
@pytest.mark.parametrize("act", ["update {} set {} = {}", "delete from {}", "truncate {} cascade"])
async def test_what_is_in_the_ledger_is_neither_changed_nor_removed(
    database: Database, books_url: str, table: str, act: str
) -> None:
    await _book(database, a_receipt_of_october(1))
    await PostgresAdjustmentBook(database).adjust([a_correction(1)])
    await close_month(PostgresMonthBook(database), OCTOBER, by="me")
    column = {"entry": "kind", "posting": "amount", "month_close": "digest", "month_seal": "by"}.get(table, "at")
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await said(books_url, act.format(table, column, column))


async def test_a_row_altered_behind_the_back_of_the_triggers_is_found(database: Database, books_url: str) -> None:
    book = PostgresMonthBook(database)
    await _book(database, *(a_receipt_of_october(number) for number in range(3)))
    await close_month(book, OCTOBER, by="me")
    await said(books_url, "alter table attempt_default disable trigger all")
    await said(
        books_url, "update attempt_default set flags = flags || array['x'] where attempt_id = $1", f"{request_id(1)}/1"
    )
    (verified,) = await verify_months(book)
    (fault,) = verified.faults
    assert "attempts were 3 rows and 300 nanodollars, and are 3 rows and 300 nanodollars, with other contents" in fault


async def test_the_parts_are_the_same_whatever_the_session_says(database: Database, books_url: str) -> None:
    await _book(database, a_receipt_of_october(1))
    await PostgresAdjustmentBook(database).adjust([a_correction(1)])
    expected = await PostgresMonthBook(database).parts(OCTOBER)
    await said(books_url, f"alter database {_name(books_url)} set timezone = 'Asia/Kolkata'")
    await said(books_url, f"alter database {_name(books_url)} set extra_float_digits = -15")
    async with Database(books_url) as another:
        assert await PostgresMonthBook(another).parts(OCTOBER) == expected
    assert [part.name for part in expected] == list(PARTS)


def _name(url: str) -> str:
    return '"' + url.removeprefix("postgresql://postgres@/").partition("?")[0] + '"'


async def test_a_month_without_facts_can_be_closed_too(database: Database) -> None:
    book = PostgresMonthBook(database)
    closed = (await close_month(book, OCTOBER, by="me")).closed
    assert {part.rows for part in closed.parts} == {0}
    assert closed == closed_month(OCTOBER, parts=await book.parts(OCTOBER), previous=closed.previous)
    assert replace(closed, digest="") != closed
