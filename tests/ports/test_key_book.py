"""`app.storage.key_book` and its fake both are what `app.ports.KeyBook` says."""

from __future__ import annotations

import pytest

from app.storage.engine import Database
from app.storage.key_book import PostgresKeyBook
from tests.books import Reachable
from tests.fakes.key_book import MemoryKeyBook
from tests.ports.key_book_suite import KeyBookAtHand, KeyBookSuite


class TestTheBookInPostgres(KeyBookSuite):
    @pytest.fixture
    def at_hand(self, database: Database, books_url: str) -> KeyBookAtHand:
        reachable = Reachable(books_url)
        return KeyBookAtHand(
            book=PostgresKeyBook(database), take_away=reachable.take_away, bring_back=reachable.bring_back
        )


class TestTheBookInMemory(KeyBookSuite):
    @pytest.fixture
    def at_hand(self) -> KeyBookAtHand:
        book = MemoryKeyBook()

        async def take_away() -> None:
            book.away = True

        async def bring_back() -> None:
            book.away = False

        return KeyBookAtHand(book=book, take_away=take_away, bring_back=bring_back)
