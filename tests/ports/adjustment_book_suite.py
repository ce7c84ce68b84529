"""What every book of corrections does, the one in Postgres and the one in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from app.domain.ledger.adjustment import Adjustment
from app.domain.money import Nanodollars
from app.ports import LedgerBook, RowsRefused
from app.ports.ledger import AdjustmentBook
from tests.ports.ledger_book_suite import receipt, request_id, rows


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustmentBookAtHand:
    """A book with nothing in it, and the ledger that it corrects."""

    book: AdjustmentBook
    ledger: LedgerBook


def a_correction(number: int, *, amount: int = -5, of: str | None = None) -> Adjustment:
    return Adjustment(
        adjustment_id=f"price/{number}",
        attempt_id=of or f"{request_id(number)}/1",
        reason="the seller lowered the price",
        by="finance",
        amount=Nanodollars(amount),
    )


class AdjustmentBookSuite:
    """Subclasses give the fixture `at_hand`."""

    async def test_a_correction_is_booked_once_however_often_it_is_sent(self, at_hand: AdjustmentBookAtHand) -> None:
        await at_hand.ledger.book(rows([receipt(1), receipt(2)]))
        both = [a_correction(1), a_correction(2)]
        assert [await at_hand.book.adjust(both) for _ in range(3)] == [2, 0, 0]
        assert await at_hand.book.adjust([*both, replace(a_correction(1), adjustment_id="another")]) == 1

    async def test_of_two_with_one_id_the_first_stands(self, at_hand: AdjustmentBookAtHand) -> None:
        await at_hand.ledger.book(rows([receipt(1)]))
        assert await at_hand.book.adjust([a_correction(1), a_correction(1, amount=7)]) == 1

    async def test_what_is_not_booked_cannot_be_corrected_and_nothing_beside_it(
        self, at_hand: AdjustmentBookAtHand
    ) -> None:
        await at_hand.ledger.book(rows([receipt(1)]))
        with pytest.raises(RowsRefused, match=request_id(9)):
            await at_hand.book.adjust([a_correction(1), a_correction(9)])
        assert await at_hand.book.adjust([a_correction(1)]) == 1

    async def test_what_is_booked_of_an_attempt_is_read_back_as_it_was_sent(
        self, at_hand: AdjustmentBookAtHand
    ) -> None:
        await at_hand.ledger.book(rows([receipt(1), receipt(2), receipt(3)]))
        second = replace(a_correction(1), adjustment_id="price/1b", output_added=-3, rate_card_digest="card")
        await at_hand.book.adjust([second, a_correction(1), a_correction(2)])
        assert list(await at_hand.book.of([f"{request_id(1)}/1", f"{request_id(3)}/1"])) == [a_correction(1), second]
        assert list(await at_hand.book.of([f"{request_id(3)}/1"])) == []
        assert list(await at_hand.book.of([])) == []

    async def test_no_corrections_are_no_work(self, at_hand: AdjustmentBookAtHand) -> None:
        assert await at_hand.book.adjust([]) == 0
