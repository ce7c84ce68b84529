"""`app.storage.month_book` and its fake both are what `app.ports.ledger.MonthBook` says."""

from __future__ import annotations

import pytest

from app.storage.engine import Database
from app.storage.month_book import PostgresMonthBook
from tests.books import Reachable
from tests.fakes.month_book import MemoryMonthBook
from tests.makers import NOON
from tests.ports.month_book_suite import MonthBookAtHand, MonthBookSuite


class TestMonthsInPostgres(MonthBookSuite):
    @pytest.fixture
    def at_hand(self, database: Database, books_url: str) -> MonthBookAtHand:
        return MonthBookAtHand(book=PostgresMonthBook(database), take_away=Reachable(books_url).take_away)


class TestMonthsInMemory(MonthBookSuite):
    @pytest.fixture
    def at_hand(self) -> MonthBookAtHand:
        book = MemoryMonthBook(now=NOON)

        async def take_away() -> None:
            book.away = True

        return MonthBookAtHand(book=book, take_away=take_away)
