from __future__ import annotations

from datetime import date
from decimal import Decimal

from app.domain.pricing.price_list import DatedCard, card_of_the_day
from app.domain.pricing.rate_card import RateCard

OLD, NEW = (RateCard.of(prompt=Decimal(usd), cached_prompt=Decimal(0), output=Decimal(usd)) for usd in (2, 1))
CHANGE = date(2026, 12, 1)
CARDS = (DatedCard(card=OLD, valid_to=CHANGE), DatedCard(card=NEW, valid_from=CHANGE))


def test_a_new_price_holds_from_its_first_day_and_the_old_one_to_the_day_before() -> None:
    assert card_of_the_day(CARDS, date(2026, 11, 30)) is OLD
    assert card_of_the_day(CARDS, CHANGE) is NEW


def test_of_two_cards_in_force_the_one_that_began_later_counts() -> None:
    assert card_of_the_day((DatedCard(card=NEW, valid_from=CHANGE), DatedCard(card=OLD)), CHANGE) is NEW


def test_where_no_card_is_in_force_there_is_no_price() -> None:
    assert card_of_the_day(CARDS[1:], date(2026, 11, 30)) is None
    assert card_of_the_day((), CHANGE) is None
