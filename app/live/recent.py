"""The receipts this process wrote last, so that a caller can read its own before it has reached Postgres."""

from __future__ import annotations

from collections import OrderedDict

from app.domain.ledger.receipt import Receipt

#: Receipts kept; at a few kilobytes each this stays below 10 MB.
MOST = 1024


class RecentReceipts:
    """A bounded memory; the oldest is forgotten first. The ledger stays the authority."""

    def __init__(self, *, most: int = MOST) -> None:
        self._most = most
        self._kept: OrderedDict[str, Receipt] = OrderedDict()

    def remember(self, receipt: Receipt) -> None:
        self._kept[receipt.request_id] = receipt
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def find(self, request_id: str, *, key_id: str) -> Receipt | None:
        """The receipt, if it is still kept and belongs to that key."""
        receipt = self._kept.get(request_id)
        return receipt if receipt is not None and receipt.facts.caller.key_id == key_id else None
