"""A ledger book in memory that behaves: idempotent, all or nothing, refuses what Postgres refuses, can be away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from app.domain.ledger.receipt import Attempt, Receipt
from app.ports import BooksAway, RowsRefused
from app.storage.columns import CHARGE_MOST, TOKENS_MOST
from app.storage.receipt_json import decode


class MemoryLedgerBook:
    """`ports.LedgerBook`. `away = True` takes it away; `receipts` is what is booked, by request id."""

    def __init__(self) -> None:
        self.receipts: dict[str, Receipt] = {}
        self.away = False

    async def book(self, receipts: Sequence[bytes]) -> int:
        self.answer_or_be_away()
        given: dict[str, Receipt] = {}
        for raw in receipts:
            receipt = _acceptable(raw)
            given.setdefault(receipt.request_id, receipt)
        fresh = {request_id: receipt for request_id, receipt in given.items() if request_id not in self.receipts}
        self._refuse_attempts_of_others(fresh.values())
        self.receipts.update(fresh)
        return len(fresh)

    async def find(self, request_id: str, *, key_id: str | None = None) -> Receipt | None:
        self.answer_or_be_away()
        found = self.receipts.get(request_id)
        if found is None or key_id is None:
            return found
        return found if found.facts.caller.key_id == key_id and found.shadow_of is None else None

    async def latest(self, *, most: int, before: str | None = None) -> Sequence[Receipt]:
        self.answer_or_be_away()
        if before is not None and not _is_request_id(before):
            return ()
        ids = sorted((name for name in self.receipts if before is None or name < before), reverse=True)
        return tuple(self.receipts[request_id] for request_id in ids[: max(most, 0)])

    def answer_or_be_away(self) -> None:
        if self.away:
            raise BooksAway("the books are away: try again")

    def _refuse_attempts_of_others(self, fresh: Iterable[Receipt]) -> None:
        seen = {(one.attempt_id, receipt.at_us) for receipt in self.receipts.values() for one in receipt.attempts}
        for receipt in fresh:
            for attempt in receipt.attempts:
                if (attempt.attempt_id, receipt.at_us) in seen:
                    raise RowsRefused(f"attempt {attempt.attempt_id} is there already")
                seen.add((attempt.attempt_id, receipt.at_us))


def _acceptable(raw: bytes) -> Receipt:
    if b"\\u0000" in raw:
        raise RowsRefused("no text may hold a zero byte")
    try:
        receipt = decode(raw)
    except ValueError as fault:
        raise RowsRefused(str(fault)) from fault
    ids = (receipt.request_id, receipt.shadow_of or receipt.request_id)
    if not all(map(_is_request_id, ids)) or not all(map(_is_sane, receipt.attempts)):
        raise RowsRefused("no receipt that could be kept")
    return receipt


def _is_request_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _is_sane(attempt: Attempt) -> bool:
    usage = attempt.usage
    counts = (usage.prompt, usage.cached, usage.output, usage.reasoning)
    prices = (attempt.price_prompt, attempt.price_cached_prompt, attempt.price_output)
    return (
        all(0 <= count <= TOKENS_MOST for count in counts)
        and all(price.is_finite() and price >= 0 for price in prices)
        and abs(attempt.charge) <= CHARGE_MOST
    )
