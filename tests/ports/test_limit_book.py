"""`app.storage.limit_book` and its fake both are what `app.ports.ledger.LimitBook` says."""

from __future__ import annotations

import pytest

from app.storage.engine import Database
from app.storage.limit_book import PostgresLimitBook
from tests.books import Reachable
from tests.fakes.limit_book import MemoryLimitBook
from tests.ports.limit_book_suite import LimitBookAtHand, LimitBookSuite


class TestTheBookInPostgres(LimitBookSuite):
    @pytest.fixture
    def at_hand(self, database: Database, books_url: str) -> LimitBookAtHand:
        reachable = Reachable(books_url)
        return LimitBookAtHand(
            book=PostgresLimitBook(database), take_away=reachable.take_away, bring_back=reachable.bring_back
        )


class TestTheBookInMemory(LimitBookSuite):
    @pytest.fixture
    def at_hand(self) -> LimitBookAtHand:
        book = MemoryLimitBook()

        async def take_away() -> None:
            book.away = True

        async def bring_back() -> None:
            book.away = False

        return LimitBookAtHand(book=book, take_away=take_away, bring_back=bring_back)
