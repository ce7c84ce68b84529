"""`app.flows.past_arrivals`: the ledger's last requests as a trace."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace

import pytest

from app.domain.errors import BadRequest
from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.usage import NOTHING, Usage
from app.flows.past_arrivals import past_arrivals
from app.ports import BooksAway
from app.storage.receipt_json import encode
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.makers import REQUEST_ID, a_receipt, an_attempt, some_facts


def a_past(number: int, *, at_s: int, output: int = 50, **named: object) -> Receipt:
    request_id = REQUEST_ID[:-4] + f"{number:04x}"
    facts = some_facts(request_id=request_id, prompt_tokens=700, prefix_tokens=300, session="talk", tags=("a",))
    usage = Usage(prompt=720, output=output) if output else NOTHING
    attempt = an_attempt(attempt_id=f"{request_id}/1", usage=usage)
    return replace(a_receipt(attempts=(attempt,)), request_id=request_id, facts=facts, at_us=at_s * 1_000_000, **named)


async def booked(*receipts: Receipt) -> MemoryLedgerBook:
    book = MemoryLedgerBook()
    await book.book([encode(receipt) for receipt in receipts])
    return book


async def test_the_last_requests_come_in_the_order_of_time_with_what_they_used() -> None:
    book = await booked(*(a_past(number, at_s=1000 + 10 * number) for number in range(700)))
    trace = await past_arrivals(book, last=600, model=None)
    assert [each.at_s for each in trace.arrivals] == [10.0 * number for number in range(600)]
    assert trace.began_us == (1000 + 10 * 100) * 1_000_000
    arrival = trace.arrivals[0]
    assert (arrival.prompt_tokens, arrival.output_tokens) == (720, 50)
    assert (arrival.facts.model, arrival.facts.session, arrival.facts.tags) == ("chat", "talk", ("a",))
    assert arrival.facts.prefix_tokens == 0
    assert (await past_arrivals(book, last=1, model="large")).arrivals[0].facts.model == "large"


class _OnDemand(MemoryLedgerBook):
    """Makes its receipts when they are asked for, and sees how many of them others keep."""

    def __init__(self, pages: int) -> None:
        super().__init__()
        self.pages = pages
        self.kept_most = 0

    async def latest(self, *, most: int, before: str | None = None) -> Sequence[Receipt]:
        self.kept_most = max(self.kept_most, sum(isinstance(each, Receipt) for each in gc.get_objects()))
        self.pages -= 1
        return [a_past(most * self.pages + number, at_s=number) for number in range(most)] if self.pages >= 0 else []


async def test_of_many_receipts_a_page_is_kept_at_a_time() -> None:
    gc.collect()
    before = sum(isinstance(each, Receipt) for each in gc.get_objects())
    book = _OnDemand(pages=6)
    trace = await past_arrivals(book, last=1_000_000, model=None)
    assert len(trace.arrivals) >= 6 * 100
    assert book.kept_most - before <= 1.5 * len(trace.arrivals) / 6


async def test_copies_are_nobodys_requests_and_what_had_no_answer_says_nothing() -> None:
    book = await booked(
        a_past(1, at_s=1),
        a_past(2, at_s=2, shadow_of=a_past(1, at_s=1).request_id),
        a_past(3, at_s=3, output=0),
        a_past(4, at_s=4, attempts=(), outcome=Outcome.REFUSED),
        a_past(5, at_s=5),
    )
    trace = await past_arrivals(book, last=100, model=None)
    assert [each.at_s for each in trace.arrivals] == [0.0, 4.0]
    assert trace.left_out == 2


async def test_books_without_an_answer_are_nothing_to_replay() -> None:
    with pytest.raises(BadRequest, match="the ledger holds no request with an answer"):
        await past_arrivals(MemoryLedgerBook(), last=10, model=None)
    book = await booked(a_past(1, at_s=1))
    book.away = True
    with pytest.raises(BooksAway):
        await past_arrivals(book, last=10, model=None)
