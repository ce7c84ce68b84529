"""`app.storage.rates_book` and its fake both are what `app.ports.RatesBook` says."""

from __future__ import annotations

import pytest

from app.storage.engine import Database
from app.storage.rates_book import PostgresRatesBook
from tests.books import Reachable
from tests.fakes.rates_book import MemoryRatesBook
from tests.ports.rates_book_suite import RatesBookAtHand, RatesBookSuite


class TestTheBookInPostgres(RatesBookSuite):
    @pytest.fixture
    def at_hand(self, database: Database, books_url: str) -> RatesBookAtHand:
        reachable = Reachable(books_url)
        return RatesBookAtHand(
            book=PostgresRatesBook(database), take_away=reachable.take_away, bring_back=reachable.bring_back
        )


class TestTheBookInMemory(RatesBookSuite):
    @pytest.fixture
    def at_hand(self) -> RatesBookAtHand:
        book = MemoryRatesBook()

        async def take_away() -> None:
            book.away = True

        async def bring_back() -> None:
            book.away = False

        return RatesBookAtHand(book=book, take_away=take_away, bring_back=bring_back)
