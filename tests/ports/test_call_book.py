"""`app.storage.call_book` and its fake both are what `app.ports.billing.CallBook` says."""

from __future__ import annotations

import pytest

from app.domain.ledger.month import Month
from app.domain.money import Nanodollars
from app.flows.month_close import close_month
from app.ports.billing import CallsQuery
from app.storage.adjustment_book import PostgresAdjustmentBook
from app.storage.call_book import PostgresCallBook
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.month_book import PostgresMonthBook
from tests.billing import hosted
from tests.books import said
from tests.fakes.adjustment_book import MemoryAdjustmentBook
from tests.fakes.call_book import MemoryCallBook
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.ports.adjustment_book_suite import a_correction
from tests.ports.call_book_suite import CallBookAtHand, CallBookSuite, read
from tests.ports.ledger_book_suite import receipt, rows

OCTOBER = Month(year=2026, number=10)


class TestCallsInPostgres(CallBookSuite):
    @pytest.fixture
    def at_hand(self, database: Database) -> CallBookAtHand:
        return CallBookAtHand(
            book=PostgresCallBook(database, batch_most=3),
            ledger=PostgresLedgerBook(database),
            adjustments=PostgresAdjustmentBook(database),
        )


class TestCallsInMemory(CallBookSuite):
    @pytest.fixture
    def at_hand(self) -> CallBookAtHand:
        ledger = MemoryLedgerBook()
        adjustments = MemoryAdjustmentBook(ledger)
        return CallBookAtHand(book=MemoryCallBook(ledger, adjustments), ledger=ledger, adjustments=adjustments)


async def test_what_is_late_for_a_closed_month_counts_for_the_open_one_and_is_the_call_of_its_own_day(
    database: Database, books_url: str
) -> None:
    ledger, book = PostgresLedgerBook(database), PostgresCallBook(database)
    early, late = (hosted(number, at=OCTOBER.begin) for number in (1, 2))
    await ledger.book(rows([early]))
    await close_month(PostgresMonthBook(database), OCTOBER, by="finance")
    await ledger.book(rows([late, receipt(3)]))
    await PostgresAdjustmentBook(database).adjust([a_correction(1, amount=-7)])
    (moment,) = await said(books_url, "select clock_timestamp() as now")
    today = moment["now"].date()
    now = Month.of(today)

    corrected, booked_late = await read(book, CallsQuery(since=now.begin, until=now.end, targets=("hosted",)))
    assert (corrected.charge, corrected.counted) == (early.charge - 7, ((today, Nanodollars(-7)),))
    assert (booked_late.charge, booked_late.counted) == (late.charge, ((today, late.charge),))
    assert corrected.began_at.month == booked_late.began_at.month == 10

    then = await read(book, CallsQuery(since=OCTOBER.begin, until=OCTOBER.end, targets=("hosted",)))
    assert [call.counted for call in then] == [((OCTOBER.first_day, early.charge),), ()]


async def test_all_batches_are_of_one_snapshot(database: Database) -> None:
    ledger = PostgresLedgerBook(database)
    await ledger.book(rows([hosted(number) for number in range(5)]))
    found = []
    async for batch in PostgresCallBook(database, batch_most=2).calls(
        CallsQuery(since=OCTOBER.begin, until=OCTOBER.next.next.begin, targets=("hosted",))
    ):
        await ledger.book(rows([hosted(number) for number in range(5, 9)]))
        found.extend(batch)
    assert len(found) == 5
