"""A spend book in memory, over what a MemoryLedgerBook holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from app.domain.budget import Budget
from app.domain.money import Nanodollars
from tests.fakes.ledger_book import MemoryLedgerBook

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MemorySpendBook:
    """`ports.SpendBook`. It can be away as its ledger book can."""

    def __init__(self, ledger: MemoryLedgerBook) -> None:
        self._ledger = ledger

    async def spent(self, budget: Budget, *, begin: datetime, end: datetime) -> Nanodollars:
        self._ledger.answer_or_be_away()
        return Nanodollars(
            sum(
                receipt.charge
                for receipt in self._ledger.receipts.values()
                if begin <= EPOCH + timedelta(microseconds=receipt.at_us) < end
                and budget.is_of(caller=receipt.facts.caller, model=receipt.facts.model)
            )
        )
