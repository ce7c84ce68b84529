"""`app.storage.adjustment_book` and its fake both are what `app.ports.ledger.AdjustmentBook` says."""

from __future__ import annotations

import pytest

from app.storage.adjustment_book import PostgresAdjustmentBook
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from tests.fakes.adjustment_book import MemoryAdjustmentBook
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.ports.adjustment_book_suite import AdjustmentBookAtHand, AdjustmentBookSuite


class TestCorrectionsInPostgres(AdjustmentBookSuite):
    @pytest.fixture
    def at_hand(self, database: Database) -> AdjustmentBookAtHand:
        return AdjustmentBookAtHand(book=PostgresAdjustmentBook(database), ledger=PostgresLedgerBook(database))


class TestCorrectionsInMemory(AdjustmentBookSuite):
    @pytest.fixture
    def at_hand(self) -> AdjustmentBookAtHand:
        ledger = MemoryLedgerBook()
        return AdjustmentBookAtHand(book=MemoryAdjustmentBook(ledger), ledger=ledger)
