"""The last requests of the ledger as a trace, to be replayed under another policy."""

from __future__ import annotations

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
    # Of each page only what a replay needs is kept: receipts are many times as large.
    answered: list[tuple[int, Arrival]] = []
    found = 0
    before: str | None = None
    while found < last:
        page = await ledger.latest(most=_A_PAGE, before=before)
        if not page:
            break
        before = page[-1].request_id
        asked = [receipt for receipt in page if receipt.shadow_of is None][: last - found]
        found += len(asked)
        answered.extend((each.at_us, _arrival(each, model=model)) for each in asked if _used(each).output > 0)
    return _trace(answered, left_out=found - len(answered))


def _trace(answered: list[tuple[int, Arrival]], *, left_out: int) -> Trace:
    if not answered:
        raise BadRequest("the ledger holds no request with an answer: there is nothing to replay", param="last")
    answered.sort(key=lambda each: (each[0], each[1].facts.request_id))
    began_us = answered[0][0]
    return Trace(
        arrivals=[replace(arrival, at_s=(at_us - began_us) / 1e6) for at_us, arrival in answered],
        began_us=began_us,
        left_out=left_out,
    )


def _arrival(receipt: Receipt, *, model: str | None) -> Arrival:
    """Its time is not known before that of the first one is."""
    used, facts = _used(receipt), receipt.facts
    # No prefix cache is simulated, so none is expected either.
    return Arrival(
        at_s=0.0,
        facts=replace(facts, model=model or facts.model, prefix_tokens=0),
        prompt_tokens=max(1, used.prompt or facts.prompt_tokens),
        output_tokens=used.output,
    )


def _used(receipt: Receipt) -> Usage:
    return NOTHING if receipt.final is None else receipt.final.usage
