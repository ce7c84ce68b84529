"""`app.storage.spend_book` and its fake both are what `app.ports.SpendBook` says."""

from __future__ import annotations

import pytest

from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.spend_book import PostgresSpendBook
from tests.books import Reachable
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.fakes.spend_book import MemorySpendBook
from tests.ports.spend_book_suite import SpendBookAtHand, SpendBookSuite


class TestTheBookInPostgres(SpendBookSuite):
    @pytest.fixture
    def at_hand(self, database: Database, books_url: str) -> SpendBookAtHand:
        reachable = Reachable(books_url)
        return SpendBookAtHand(
            book=PostgresSpendBook(database),
            ledger=PostgresLedgerBook(database),
            take_away=reachable.take_away,
            bring_back=reachable.bring_back,
        )


class TestTheBookInMemory(SpendBookSuite):
    @pytest.fixture
    def at_hand(self) -> SpendBookAtHand:
        ledger = MemoryLedgerBook()

        async def take_away() -> None:
            ledger.away = True

        async def bring_back() -> None:
            ledger.away = False

        return SpendBookAtHand(book=MemorySpendBook(ledger), ledger=ledger, take_away=take_away, bring_back=bring_back)
