"""`app.storage.ledger_book` and its fake both are what `app.ports.LedgerBook` says."""

from __future__ import annotations

import pytest

from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from tests.books import Reachable
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.ports.ledger_book_suite import LedgerBookAtHand, LedgerBookSuite


class TestTheBookInPostgres(LedgerBookSuite):
    @pytest.fixture
    def at_hand(self, database: Database, books_url: str) -> LedgerBookAtHand:
        reachable = Reachable(books_url)
        return LedgerBookAtHand(
            book=PostgresLedgerBook(database), take_away=reachable.take_away, bring_back=reachable.bring_back
        )


class TestTheBookInMemory(LedgerBookSuite):
    @pytest.fixture
    def at_hand(self) -> LedgerBookAtHand:
        book = MemoryLedgerBook()

        async def take_away() -> None:
            book.away = True

        async def bring_back() -> None:
            book.away = False

        return LedgerBookAtHand(book=book, take_away=take_away, bring_back=bring_back)
