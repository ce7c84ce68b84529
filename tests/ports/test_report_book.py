"""`app.storage.report_book` and its fake both are what `app.ports.ReportBook` says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.ledger.report import CostQuery
from app.ports import Books
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.report_book import PostgresReportBook
from tests.books import Reachable
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.fakes.report_book import MemoryReportBook
from tests.ports.report_book_suite import ReportBookAtHand, ReportBookSuite


class TestTheBookInPostgres(ReportBookSuite):
    @pytest.fixture
    def at_hand(self, database: Database, books_url: str) -> ReportBookAtHand:
        reachable = Reachable(books_url)
        return ReportBookAtHand(
            book=PostgresReportBook(database),
            ledger=PostgresLedgerBook(database),
            take_away=reachable.take_away,
            bring_back=reachable.bring_back,
        )


class AsOfTomorrow:
    """The same book, asked for an earlier report before whose moment everything was booked."""

    def __init__(self, book: PostgresReportBook) -> None:
        self._book = book

    async def read(self, query: CostQuery) -> Books:
        return await self._book.read(replace(query, as_of=datetime.now(UTC) + timedelta(days=1)))


class TestAnEarlierReportInPostgres(ReportBookSuite):
    @pytest.fixture
    def at_hand(self, database: Database, books_url: str) -> ReportBookAtHand:
        reachable = Reachable(books_url)
        return ReportBookAtHand(
            book=AsOfTomorrow(PostgresReportBook(database)),
            ledger=PostgresLedgerBook(database),
            take_away=reachable.take_away,
            bring_back=reachable.bring_back,
        )


class TestTheBookInMemory(ReportBookSuite):
    @pytest.fixture
    def at_hand(self) -> ReportBookAtHand:
        ledger = MemoryLedgerBook()

        async def take_away() -> None:
            ledger.away = True

        async def bring_back() -> None:
            ledger.away = False

        return ReportBookAtHand(
            book=MemoryReportBook(ledger), ledger=ledger, take_away=take_away, bring_back=bring_back
        )
