"""Corrections in memory, of what a ledger book in memory holds."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from app.domain.ledger.adjustment import Adjustment
from app.ports import RowsRefused
from tests.fakes.ledger_book import MemoryLedgerBook


class MemoryAdjustmentBook:
    """`ports.ledger.AdjustmentBook`; `adjustments` is what is booked, by id."""

    def __init__(self, ledger: MemoryLedgerBook) -> None:
        self.adjustments: dict[str, Adjustment] = {}
        self._ledger = ledger

    async def adjust(self, adjustments: Sequence[Adjustment]) -> int:
        self._ledger.answer_or_be_away()
        attempts = {one.attempt_id for receipt in self._ledger.receipts.values() for one in receipt.attempts}
        fresh: dict[str, Adjustment] = {}
        for one in adjustments:
            if one.attempt_id not in attempts:
                raise RowsRefused(f"attempt {one.attempt_id} is not booked")
            if one.adjustment_id not in self.adjustments:
                fresh.setdefault(one.adjustment_id, one)
        self.adjustments.update(fresh)
        return len(fresh)

    async def of(self, attempt_ids: Collection[str]) -> Sequence[Adjustment]:
        self._ledger.answer_or_be_away()
        wanted = set(attempt_ids)
        return tuple(one for _, one in sorted(self.adjustments.items()) if one.attempt_id in wanted)
