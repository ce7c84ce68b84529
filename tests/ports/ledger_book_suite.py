"""What every ledger book does, the one in Postgres and the one in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import pytest

from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.routing.plan import Refusal, RefusalReason
from app.domain.usage import Usage
from app.ports import BooksAway, LedgerBook, RowsRefused
from app.storage.receipt_json import encode
from tests.makers import a_caller, a_receipt, an_attempt, some_facts


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerBookAtHand:
    """A book with nothing in it, and what makes it go away and come back."""

    book: LedgerBook
    take_away: Callable[[], Awaitable[None]]
    bring_back: Callable[[], Awaitable[None]]


def request_id(number: int) -> str:
    return f"019ab000-0000-7000-8000-{number:012x}"


def receipt(number: int, **named: object) -> Receipt:
    """The receipt of one request with one attempt; with a later number, a later request."""
    identity = request_id(number)
    values: dict[str, object] = {
        "request_id": identity,
        "at_us": 1_795_435_200_000_000 + number * 1000,
        "facts": some_facts(request_id=identity),
        **named,
    }
    return a_receipt(an_attempt(attempt_id=f"{identity}/1"), **values)  # type: ignore[arg-type]


def rows(receipts: Sequence[Receipt]) -> list[bytes]:
    return [encode(one) for one in receipts]


REFUSED = a_receipt(
    decision=Refusal(reason=RefusalReason.NO_TARGET, rule=None, message="nobody may serve this"),
    outcome=Outcome.REFUSED,
    status=503,
)
REFUSED = replace(REFUSED, attempts=())

#: What a server refuses for itself: the reason, and the record.
BAD_ROWS: dict[str, bytes] = {
    "no JSON": b'{"request_id":',
    "not an object": b"[1]",
    "empty": b"",
    "not UTF-8": encode(receipt(1)).replace(b"research", b"resear\xff"),
    "a field is missing": encode(receipt(1)).replace(b'"policy_digest"', b'"policy_digets"'),
    "a field is null": encode(receipt(1)).replace(b'"duration_s":2.31', b'"duration_s":null'),
    "a number is text": encode(receipt(1)).replace(b'"at_us":', b'"at_us":"x","was":'),
    "an id is none": encode(receipt(1)).replace(request_id(1).encode(), b"not-an-id"),
    "a copy of nothing": encode(receipt(1, shadow_of="not-an-id")),
    "a zero byte": encode(receipt(1)).replace(b"research", b"re\\u0000search"),
    "an outcome nobody knows": encode(receipt(1)).replace(b'"outcome":"complete"', b'"outcome":"splendid"'),
    "a hosting nobody knows": encode(receipt(1)).replace(b'"self_hosted"', b'"under_the_desk"'),
    "tokens below zero": encode(replace(receipt(1), attempts=(an_attempt(usage=Usage(prompt=-1, output=0)),))),
    "tokens beyond reason": encode(replace(receipt(1), attempts=(an_attempt(usage=Usage(prompt=10**15, output=0)),))),
    "a charge beyond reason": encode(replace(receipt(1), attempts=(an_attempt(charge=Nanodollars(10**17)),))),
    "a price that is none": encode(replace(receipt(1), attempts=(an_attempt(price_output=Decimal("NaN")),))),
}


class LedgerBookSuite:
    """Subclasses give the fixture `at_hand`."""

    async def test_what_was_booked_is_found_again_as_it_was(self, at_hand: LedgerBookAtHand) -> None:
        given = receipt(1, caller_label="mine", flags=("one", "two"))
        assert await at_hand.book.book(rows([given])) == 1
        assert await at_hand.book.find(given.request_id) == given

    async def test_a_refusal_without_attempts_is_found_again_as_it_was(self, at_hand: LedgerBookAtHand) -> None:
        await at_hand.book.book(rows([REFUSED]))
        assert await at_hand.book.find(REFUSED.request_id) == REFUSED

    async def test_attempts_come_back_in_their_order_however_many_there_are(self, at_hand: LedgerBookAtHand) -> None:
        attempts = tuple(an_attempt(attempt_id=f"{request_id(1)}/{number}", number=number) for number in range(1, 13))
        given = replace(receipt(1), attempts=attempts)
        await at_hand.book.book(rows([given]))
        assert await at_hand.book.find(request_id(1)) == given

    async def test_a_second_booking_books_nothing(self, at_hand: LedgerBookAtHand) -> None:
        batch = rows([receipt(number) for number in range(20)])
        assert await at_hand.book.book(batch) == 20
        assert [await at_hand.book.book(batch) for _ in range(3)] == [0, 0, 0]
        assert await at_hand.book.book([*batch, *rows([receipt(99)])]) == 1

    async def test_of_two_receipts_with_one_id_the_first_stands(self, at_hand: LedgerBookAtHand) -> None:
        real, guess = receipt(1), replace(receipt(1), outcome=Outcome.INTERRUPTED)
        assert await at_hand.book.book(rows([real, guess])) == 1
        assert await at_hand.book.book(rows([guess])) == 0
        assert await at_hand.book.find(request_id(1)) == real

    async def test_an_empty_batch_books_nothing(self, at_hand: LedgerBookAtHand) -> None:
        assert await at_hand.book.book([]) == 0

    @pytest.mark.parametrize("bad", BAD_ROWS.values(), ids=BAD_ROWS.keys())
    async def test_a_batch_with_one_bad_row_is_refused_and_books_nothing(
        self, at_hand: LedgerBookAtHand, bad: bytes
    ) -> None:
        with pytest.raises(RowsRefused):
            await at_hand.book.book([*rows([receipt(5)]), bad, *rows([receipt(6)])])
        assert await at_hand.book.latest(most=10) == ()
        assert await at_hand.book.book(rows([receipt(5), receipt(6)])) == 2

    async def test_an_attempt_that_another_request_had_is_refused(self, at_hand: LedgerBookAtHand) -> None:
        first = receipt(1)
        thief = replace(receipt(2), at_us=first.at_us, attempts=first.attempts)
        await at_hand.book.book(rows([first]))
        with pytest.raises(RowsRefused):
            await at_hand.book.book(rows([thief]))

    async def test_nobody_finds_what_was_not_booked(self, at_hand: LedgerBookAtHand) -> None:
        assert await at_hand.book.find(request_id(1)) is None

    @pytest.mark.parametrize("text", ["", "x", "a\0b", "'; drop table receipt; --", f"{{{request_id(1)}}}", "é" * 36])
    async def test_a_text_that_is_no_id_is_found_nowhere(self, at_hand: LedgerBookAtHand, text: str) -> None:
        await at_hand.book.book(rows([receipt(1)]))
        assert await at_hand.book.find(text) is None
        assert await at_hand.book.latest(most=5, before=text) == ()

    async def test_a_key_finds_its_own_receipts_alone(self, at_hand: LedgerBookAtHand) -> None:
        mine = receipt(1, facts=some_facts(request_id=request_id(1), caller=a_caller(key_id="mine")))
        await at_hand.book.book(rows([mine]))
        assert await at_hand.book.find(mine.request_id, key_id="mine") == mine
        assert await at_hand.book.find(mine.request_id, key_id="yours") is None

    async def test_a_copy_for_a_shadow_says_of_what_and_only_the_operator_finds_it(
        self, at_hand: LedgerBookAtHand
    ) -> None:
        copy = receipt(2, shadow_of=request_id(1))
        await at_hand.book.book(rows([receipt(1), copy]))
        assert await at_hand.book.find(request_id(2)) == copy
        assert await at_hand.book.find(request_id(2), key_id=copy.facts.caller.key_id) is None
        assert await at_hand.book.find(request_id(1), key_id=copy.facts.caller.key_id) == receipt(1)
        assert list(await at_hand.book.latest(most=2)) == [copy, receipt(1)]

    async def test_the_latest_come_newest_first_and_page_by_id(self, at_hand: LedgerBookAtHand) -> None:
        given = [receipt(number) for number in range(10)]
        await at_hand.book.book(rows(given[5:]))
        await at_hand.book.book(rows(given[:5]))
        newest = await at_hand.book.latest(most=4)
        assert list(newest) == given[:-5:-1]
        older = await at_hand.book.latest(most=100, before=newest[-1].request_id)
        assert list(older) == given[5::-1]
        assert await at_hand.book.latest(most=5, before=given[0].request_id) == ()
        assert await at_hand.book.latest(most=0) == ()

    async def test_a_book_that_is_away_says_so_and_serves_again_when_it_is_back(
        self, at_hand: LedgerBookAtHand
    ) -> None:
        await at_hand.book.book(rows([receipt(1)]))
        await at_hand.take_away()
        with pytest.raises(BooksAway):
            await at_hand.book.book(rows([receipt(2)]))
        with pytest.raises(BooksAway):
            await at_hand.book.find(request_id(1))
        with pytest.raises(BooksAway):
            await at_hand.book.latest(most=1)
        await at_hand.bring_back()
        assert await at_hand.book.book(rows([receipt(1), receipt(2)])) == 1
