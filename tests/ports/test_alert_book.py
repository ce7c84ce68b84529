"""`app.storage.alert_book` and its fake both are what `app.ports.alerts.AlertBook` says."""

from __future__ import annotations

import pytest

from app.storage.alert_book import PostgresAlertBook
from app.storage.engine import Database
from tests.books import Reachable
from tests.fakes.alert_book import MemoryAlertBook
from tests.ports.alert_book_suite import AlertBookAtHand, AlertBookSuite


class TestTheBookInPostgres(AlertBookSuite):
    @pytest.fixture
    def at_hand(self, database: Database, books_url: str) -> AlertBookAtHand:
        reachable = Reachable(books_url)
        return AlertBookAtHand(
            book=PostgresAlertBook(database), take_away=reachable.take_away, bring_back=reachable.bring_back
        )


class TestTheBookInMemory(AlertBookSuite):
    @pytest.fixture
    def at_hand(self) -> AlertBookAtHand:
        book = MemoryAlertBook()

        async def take_away() -> None:
            book.away = True

        async def bring_back() -> None:
            book.away = False

        return AlertBookAtHand(book=book, take_away=take_away, bring_back=bring_back)
