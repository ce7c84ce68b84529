"""What every price book does, the one in Postgres and the one in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

import pytest

from app.domain.pricing.price_list import DatedCard
from app.domain.pricing.rate_card import RateCard
from app.ports import BooksAway
from app.ports.prices import PriceBook, PriceRow, PriceSource
from tests.domain.pricing.lists import GPT_5_5

PLAIN = RateCard.of(prompt=Decimal("0.000000000001"), cached_prompt=Decimal(0), output=Decimal(1_000_000))


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBookAtHand:
    """A book with no prices in it, and what makes it go away and come back."""

    book: PriceBook
    take_away: Callable[[], Awaitable[None]]
    bring_back: Callable[[], Awaitable[None]]


def row(
    name: str = "hosted",
    *,
    card: RateCard = GPT_5_5,
    source: PriceSource = PriceSource.POLICY,
    valid_from: date | None = None,
    first_seen_s: int = 1_795_435_200,
) -> PriceRow:
    dated = DatedCard(card=card, valid_from=valid_from, valid_to=None)
    return PriceRow(name=name, model="gpt-5.5", source=source, dated=dated, first_seen_s=first_seen_s)


class PriceBookSuite:
    """Subclasses give the fixture `at_hand`."""

    @pytest.mark.parametrize("card", [GPT_5_5, PLAIN], ids=["a whole list", "three prices"])
    async def test_a_card_comes_back_by_its_digest_to_the_last_digit(
        self, at_hand: PriceBookAtHand, card: RateCard
    ) -> None:
        assert await at_hand.book.remember([row(card=card)]) == 1
        assert await at_hand.book.find(card.digest) == card
        assert await at_hand.book.rows() == (row(card=card),)

    async def test_a_digest_that_nobody_used_is_not_found(self, at_hand: PriceBookAtHand) -> None:
        assert await at_hand.book.find("0123456789abcdef") is None
        assert await at_hand.book.rows() == ()

    async def test_what_is_known_is_not_kept_twice_and_keeps_its_first_day(self, at_hand: PriceBookAtHand) -> None:
        assert await at_hand.book.remember([row(), row("other")]) == 2
        assert await at_hand.book.remember([row(first_seen_s=1_800_000_000), row("third"), row("third")]) == 1
        assert [(each.name, each.first_seen_s) for each in await at_hand.book.rows()] == [
            ("hosted", 1_795_435_200),
            ("other", 1_795_435_200),
            ("third", 1_795_435_200),
        ]

    async def test_another_day_source_or_model_is_another_row(self, at_hand: PriceBookAtHand) -> None:
        others = [row(valid_from=date(2026, 12, 1)), row(source=PriceSource.CATALOGUE), replace(row(), model="other")]
        assert await at_hand.book.remember([row(), *others]) == 4

    async def test_rows_are_of_one_name_or_source_where_that_is_asked_for_the_newest_first(
        self, at_hand: PriceBookAtHand
    ) -> None:
        old, new = row(first_seen_s=10), row(card=PLAIN, first_seen_s=20)
        listed = row("openai/gpt-5.5", source=PriceSource.CATALOGUE)
        await at_hand.book.remember([old, new, listed])
        assert await at_hand.book.rows(name="hosted") == (new, old)
        assert await at_hand.book.rows(source=PriceSource.CATALOGUE) == (listed,)
        assert await at_hand.book.rows(source=PriceSource.MEASURED) == ()

    async def test_nothing_to_remember_is_nothing_kept(self, at_hand: PriceBookAtHand) -> None:
        assert await at_hand.book.remember([]) == 0

    async def test_a_book_that_is_away_says_so_and_serves_again_when_it_is_back(self, at_hand: PriceBookAtHand) -> None:
        await at_hand.take_away()
        for call in (at_hand.book.remember([row()]), at_hand.book.find(GPT_5_5.digest), at_hand.book.rows()):
            with pytest.raises(BooksAway):
                await call
        await at_hand.bring_back()
        assert await at_hand.book.rows() == ()
