"""`app.storage.partitions`: months made ahead, and the net below them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.ports import BooksAway
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.partitions import TURN, ensure_partitions
from app.storage.receipt_json import encode
from tests.books import said
from tests.makers import NOON, a_receipt


def at(year: int, month: int, day: int = 1) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


async def test_this_month_and_the_next_two_are_made_over_the_years_end(database: Database) -> None:
    made = await ensure_partitions(database, now=at(2027, 11, 30))
    assert made == tuple(
        f"{table}_{month}" for table in ("receipt", "attempt") for month in ("2027_11", "2027_12", "2028_01")
    )


async def test_what_is_there_is_not_made_again(database: Database) -> None:
    assert await ensure_partitions(database, now=NOON) == ()
    assert await ensure_partitions(database, now=at(2026, 12, 1)) == ("receipt_2027_02", "attempt_2027_02")
    assert await ensure_partitions(database, now=at(2026, 12, 31)) == ()


async def test_a_month_begins_at_midnight_utc_wherever_the_clock_hangs(database: Database, books_url: str) -> None:
    in_tokyo = datetime(2027, 6, 1, 8, 59, tzinfo=timezone(timedelta(hours=9)))
    assert "receipt_2027_05" in await ensure_partitions(database, now=in_tokyo)
    last = a_receipt(at_us=int(at(2027, 6).timestamp()) * 1_000_000 - 1)
    await PostgresLedgerBook(database).book([encode(last)])
    (row,) = await said(books_url, "select tableoid::regclass::text as place from receipt")
    assert row["place"] == "receipt_2027_05"


async def test_a_row_of_a_month_without_partition_falls_into_the_net_and_is_found_there(
    database: Database, books_url: str
) -> None:
    book = PostgresLedgerBook(database)
    early = a_receipt(at_us=int(at(2031, 1).timestamp()) * 1_000_000)
    assert await book.book([encode(early)]) == 1
    assert await book.book([encode(early)]) == 0
    assert await book.find(early.request_id) == early
    (row,) = await said(books_url, "select tableoid::regclass::text as place from attempt")
    assert row["place"] == "attempt_default"


async def test_a_month_that_began_in_the_net_stays_there_and_the_next_ones_are_made(database: Database) -> None:
    book = PostgresLedgerBook(database)
    early = a_receipt(at_us=int(at(2031, 1).timestamp()) * 1_000_000)
    await book.book([encode(early)])
    made = await ensure_partitions(database, now=at(2031, 1, 2))
    assert made == ("receipt_2031_02", "receipt_2031_03", "attempt_2031_02", "attempt_2031_03")
    assert await book.find(early.request_id) == early


async def test_whoever_comes_second_leaves_it_to_the_first(database: Database) -> None:
    async with database.connection() as first, first.transaction():
        await first.execute("select pg_advisory_xact_lock($1)", TURN)
        assert await ensure_partitions(database, now=at(2029, 1)) == ()
    assert len(await ensure_partitions(database, now=at(2029, 1))) == 6


async def test_a_report_that_stands_in_the_way_is_not_waited_for_without_end(database: Database) -> None:
    async with database.connection() as report, report.transaction():
        await report.fetchval("select count(*) from receipt")
        with pytest.raises(BooksAway, match="lock timeout"):
            await ensure_partitions(database, now=at(2029, 1))
    assert len(await ensure_partitions(database, now=at(2029, 1))) == 6


async def test_a_new_partition_refuses_to_be_emptied(database: Database, books_url: str) -> None:
    await ensure_partitions(database, now=at(2029, 1))
    triggers = await said(
        books_url, "select tgname from pg_trigger where tgrelid = 'receipt_2029_03'::regclass order by tgname"
    )
    names = [row["tgname"] for row in triggers]
    assert names == ["receipt_2029_03_no_truncate", "receipt_append_only", "receipt_sealed"]
