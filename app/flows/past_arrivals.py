"""The last requests of the ledger as a trace, to be replayed under another policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from app.documents.trace import Trace
from app.domain.errors import BadRequest
from app.domain.ledger.receipt import Receipt
from app.domain.replay.arrival import Arrival
from app.domain.usage import NOTHING, Usage
from app.ports import LedgerBook

#: Receipts read with one statement.
_A_PAGE = 500


async def past_arrivals(ledger: LedgerBook, *, last: int, model: str | None) -> Trace:
    """The `last` requests that the ledger holds, in the order of time, with the facts that they were decided on and the
    tokens that they used; all of them asking for `model`, where one is given. Copies for shadows do not count; those
    without an output token are left out. Raises BadRequest when nothing is left, BooksAway."""
    receipts: list[Receipt] = []
    before: str | None = None
    while len(receipts) < last:
        page = await ledger.latest(most=_A_PAGE, before=before)
        if not page:
            break
        before = page[-1].request_id
        receipts.extend(receipt for receipt in page if receipt.shadow_of is None)
    return _trace(receipts[:last], model=model)


def _trace(receipts: Sequence[Receipt], *, model: str | None) -> Trace:
    in_order = sorted(receipts, key=lambda receipt: (receipt.at_us, receipt.request_id))
    answered = [receipt for receipt in in_order if _used(receipt).output > 0]
    if not answered:
        raise BadRequest("the ledger holds no request with an answer: there is nothing to replay", param="last")
    began_us = answered[0].at_us
    return Trace(
        arrivals=[_arrival(receipt, model=model, began_us=began_us) for receipt in answered],
        began_us=began_us,
        left_out=len(in_order) - len(answered),
    )


def _arrival(receipt: Receipt, *, model: str | None, began_us: int) -> Arrival:
    used, facts = _used(receipt), receipt.facts
    # No prefix cache is simulated, so none is expected either.
    return Arrival(
        at_s=(receipt.at_us - began_us) / 1e6,
        facts=replace(facts, model=model or facts.model, prefix_tokens=0),
        prompt_tokens=max(1, used.prompt or facts.prompt_tokens),
        output_tokens=used.output,
    )


def _used(receipt: Receipt) -> Usage:
    return NOTHING if receipt.final is None else receipt.final.usage
