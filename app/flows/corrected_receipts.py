"""Receipts with what was corrected of them since, as the command line and the console show them."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.ledger.receipt import Receipt
from app.domain.ledger.view import receipt_view
from app.ports.ledger import AdjustmentBook


async def corrected_views(receipts: Sequence[Receipt], adjustments: AdjustmentBook) -> list[dict[str, object]]:
    """A view of each, in their order. Raises BooksAway."""
    booked = await adjustments.of([attempt.attempt_id for receipt in receipts for attempt in receipt.attempts])
    return [receipt_view(receipt, adjustments=booked) for receipt in receipts]
