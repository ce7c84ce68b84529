"""`app.storage.price_book` and its fake both are what `app.ports.prices.PriceBook` says."""

from __future__ import annotations

import pytest

from app.storage.engine import Database
from app.storage.price_book import PostgresPriceBook
from tests.books import Reachable
from tests.fakes.price_book import MemoryPriceBook
from tests.ports.price_book_suite import PriceBookAtHand, PriceBookSuite


class TestTheBookInPostgres(PriceBookSuite):
    @pytest.fixture
    def at_hand(self, database: Database, books_url: str) -> PriceBookAtHand:
        reachable = Reachable(books_url)
        return PriceBookAtHand(
            book=PostgresPriceBook(database), take_away=reachable.take_away, bring_back=reachable.bring_back
        )


class TestTheBookInMemory(PriceBookSuite):
    @pytest.fixture
    def at_hand(self) -> PriceBookAtHand:
        book = MemoryPriceBook()

        async def take_away() -> None:
            book.away = True

        async def bring_back() -> None:
            book.away = False

        return PriceBookAtHand(book=book, take_away=take_away, bring_back=bring_back)
