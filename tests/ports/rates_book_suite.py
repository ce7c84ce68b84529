"""What every rates book does, the one in Postgres and the one in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal

import pytest

from app.domain.pricing.self_host import MeasuredRates
from app.ports import BooksAway, RatesBook


@dataclass(frozen=True, slots=True, kw_only=True)
class RatesBookAtHand:
    """A book with no rates in it, and what makes it go away and come back."""

    book: RatesBook
    take_away: Callable[[], Awaitable[None]]
    bring_back: Callable[[], Awaitable[None]]


def rates(target: str = "home", *, measured_at_s: int = 1_795_435_200, decode: str = "301.125") -> MeasuredRates:
    return MeasuredRates(
        target=target,
        prefill_tokens_per_s=Decimal("912.0000000001"),
        decode_tokens_per_s=Decimal(decode),
        model="smollm2",
        engine_version="2026.4.1",
        measured_at_s=measured_at_s,
        concurrency=8,
    )


class RatesBookSuite:
    """Subclasses give the fixture `at_hand`."""

    async def test_a_measurement_comes_back_to_the_last_digit(self, at_hand: RatesBookAtHand) -> None:
        await at_hand.book.remember(rates())
        assert await at_hand.book.newest() == (rates(),)

    async def test_the_newest_measurement_of_each_target_counts_whenever_it_was_told(
        self, at_hand: RatesBookAtHand
    ) -> None:
        for measured in (rates("a", measured_at_s=20), rates("a", measured_at_s=10), rates("b", measured_at_s=15)):
            await at_hand.book.remember(measured)
        assert await at_hand.book.newest() == (rates("a", measured_at_s=20), rates("b", measured_at_s=15))

    async def test_of_two_in_the_same_second_the_later_told_counts(self, at_hand: RatesBookAtHand) -> None:
        await at_hand.book.remember(rates(decode="1"))
        await at_hand.book.remember(rates(decode="2"))
        assert await at_hand.book.newest() == (rates(decode="2"),)

    async def test_nothing_measured_is_nothing_known(self, at_hand: RatesBookAtHand) -> None:
        assert await at_hand.book.newest() == ()

    async def test_a_book_that_is_away_says_so_and_serves_again_when_it_is_back(self, at_hand: RatesBookAtHand) -> None:
        await at_hand.book.remember(rates())
        await at_hand.take_away()
        with pytest.raises(BooksAway):
            await at_hand.book.newest()
        with pytest.raises(BooksAway):
            await at_hand.book.remember(rates())
        await at_hand.bring_back()
        assert await at_hand.book.newest() == (rates(),)
