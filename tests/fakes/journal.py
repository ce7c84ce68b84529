"""A journal in memory that behaves: it keeps what was written over the death of its process, and ships it in order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from app.domain.errors import LedgerUnavailable
from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.usage import UsageSource
from app.ports import Shipment
from app.storage.receipt_json import encode


@dataclass(slots=True)
class MemoryDisk:
    """What outlives a process."""

    intents: dict[str, Receipt] = field(default_factory=dict)
    receipts: list[Receipt] = field(default_factory=list)
    rejected: list[tuple[bytes, str]] = field(default_factory=list)


class MemoryJournal:
    """`ports.Journal` and `ports.Outbox`.

    Given the disk of a journal whose process died, it books what was open there as interrupted. `full = True` refuses
    new work; while `slow` is set, nothing becomes durable and `settle` waits.
    """

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        self.disk = disk or MemoryDisk()
        self.full = False
        self._durable = asyncio.Event()
        self._durable.set()
        self._more = asyncio.Event()
        self.disk.receipts += map(_interrupted, self.disk.intents.values())
        self.disk.intents = {}

    @property
    def slow(self) -> bool:
        return not self._durable.is_set()

    @slow.setter
    def slow(self, slow: bool) -> None:
        if slow:
            self._durable.clear()
        else:
            self._durable.set()

    def intend(self, receipt: Receipt) -> None:
        if self.full:
            raise LedgerUnavailable("the journal is full: ship something")
        self.disk.intents[receipt.request_id] = receipt

    def checkpoint(self, *, request_id: str, output_tokens: int, charge: Nanodollars) -> None:
        intent = self.disk.intents.get(request_id)
        if intent is None or not intent.attempts or self.full:
            return
        last = intent.attempts[-1]
        last = replace(
            last,
            usage=replace(last.usage, output=output_tokens),
            usage_source=UsageSource.CHECKPOINT,
            charge=charge,
        )
        self.disk.intents[request_id] = replace(intent, attempts=(*intent.attempts[:-1], last))

    async def settle(self, receipt: Receipt) -> None:
        self._append(receipt)
        await self._durable.wait()

    def settle_later(self, receipt: Receipt) -> None:
        if not self.full or receipt.request_id in self.disk.intents:
            self._append(receipt)

    @property
    def depth(self) -> int:
        return len(self.disk.receipts)

    @property
    def quarantined(self) -> int:
        return len(self.disk.rejected)

    async def next_shipment(self, *, most: int) -> Shipment | None:
        oldest = tuple(self.disk.receipts[:most])
        return Shipment(receipts=tuple(map(encode, oldest)), mark=oldest) if oldest else None

    def shipped(self, shipment: Shipment) -> None:
        oldest = shipment.mark
        assert isinstance(oldest, tuple), "a shipment of another outbox"
        if tuple(self.disk.receipts[: len(oldest)]) == oldest:
            del self.disk.receipts[: len(oldest)]

    def quarantine(self, receipt: bytes, *, reason: str) -> None:
        self.disk.rejected.append((receipt, reason))

    async def wait_for_more(self) -> None:
        while not self.disk.receipts:
            self._more.clear()
            await self._more.wait()

    def _append(self, receipt: Receipt) -> None:
        if self.full and receipt.request_id not in self.disk.intents:
            raise LedgerUnavailable("the journal is full, and this request was never dispatched: ship something")
        self.disk.intents.pop(receipt.request_id, None)
        self.disk.receipts.append(receipt)
        self._more.set()


def _interrupted(intent: Receipt) -> Receipt:
    last = tuple(replace(attempt, outcome=Outcome.INTERRUPTED) for attempt in intent.attempts[-1:])
    return replace(intent, outcome=Outcome.INTERRUPTED, attempts=(*intent.attempts[:-1], *last))
