"""Receipts with what was corrected of them since (`app.flows.corrected_receipts`)."""

from __future__ import annotations

import pytest

from app.flows.corrected_receipts import corrected_views
from app.ports import BooksAway
from tests.fakes.adjustment_book import MemoryAdjustmentBook
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.ports.adjustment_book_suite import a_correction
from tests.ports.ledger_book_suite import receipt, rows


async def test_each_receipt_tells_its_own_corrections_and_the_charge_they_come_to() -> None:
    ledger = MemoryLedgerBook()
    receipts = [receipt(1), receipt(2)]
    await ledger.book(rows(receipts))
    book = MemoryAdjustmentBook(ledger)
    await book.adjust([a_correction(2, amount=-5)])
    untouched, corrected = await corrected_views(receipts, book)
    assert (untouched["adjustments"], untouched["corrected_charge_nanodollars"]) == ([], receipts[0].charge)
    assert corrected["corrected_charge_nanodollars"] == receipts[1].charge - 5
    assert corrected["charge_nanodollars"] == receipts[1].charge


async def test_books_that_are_away_are_not_taken_for_books_without_corrections() -> None:
    ledger = MemoryLedgerBook()
    ledger.away = True
    with pytest.raises(BooksAway):
        await corrected_views([receipt(1)], MemoryAdjustmentBook(ledger))
