"""What every book of months does, the one in Postgres and the one in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from app.domain.ledger.month import NO_MONTH_BEFORE, Month, closed_month
from app.ports import BooksAway, RowsRefused
from app.ports.ledger import MonthBook

AUGUST, SEPTEMBER, OCTOBER = (Month(year=2026, number=number) for number in (8, 9, 10))


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthBookAtHand:
    """A book with no month in it, and what makes it go away."""

    book: MonthBook
    take_away: Callable[[], Awaitable[None]]


class MonthBookSuite:
    """Subclasses give the fixture `at_hand`."""

    async def test_months_are_sealed_one_after_the_other_and_once(self, at_hand: MonthBookAtHand) -> None:
        book = at_hand.book
        assert (await book.seen()).sealed == ()
        assert [await book.seal(month, by="me") for month in (AUGUST, AUGUST, OCTOBER, SEPTEMBER, OCTOBER)] == [
            True,
            True,
            False,
            True,
            True,
        ]
        assert (await book.seen()).sealed == (AUGUST, SEPTEMBER, OCTOBER)
        assert not await book.seal(Month(year=2026, number=7), by="me")

    async def test_a_month_that_is_not_over_is_not_sealed(self, at_hand: MonthBookAtHand) -> None:
        seen = await at_hand.book.seen()
        assert not await at_hand.book.seal(Month.of(seen.now), by="me")
        assert (await at_hand.book.seen()).sealed == ()

    async def test_a_closed_month_is_read_back_as_it_was_kept(self, at_hand: MonthBookAtHand) -> None:
        await at_hand.book.seal(OCTOBER, by="me")
        closed = closed_month(OCTOBER, parts=await at_hand.book.parts(OCTOBER), previous=NO_MONTH_BEFORE)
        await at_hand.book.close(closed)
        assert (await at_hand.book.seen()).closed == (closed,)
        with pytest.raises(RowsRefused):
            await at_hand.book.close(closed)

    async def test_only_a_sealed_month_is_closed(self, at_hand: MonthBookAtHand) -> None:
        with pytest.raises(RowsRefused):
            await at_hand.book.close(closed_month(OCTOBER, parts=(), previous=NO_MONTH_BEFORE))

    async def test_nobody_keeps_money_of_a_month_without_budgets(self, at_hand: MonthBookAtHand) -> None:
        assert await at_hand.book.unfinished(OCTOBER) == 0

    async def test_a_book_that_is_away_says_so(self, at_hand: MonthBookAtHand) -> None:
        await at_hand.take_away()
        with pytest.raises(BooksAway):
            await at_hand.book.seen()
        with pytest.raises(BooksAway):
            await at_hand.book.seal(OCTOBER, by="me")
