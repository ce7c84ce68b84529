from __future__ import annotations

from copy import copy
from decimal import Decimal

from app.domain.pricing.rate_card import PRICE_DIGITS_MOST, SCALE_DIGITS, RateCard


def test_the_same_prices_have_the_same_digest_however_they_are_written() -> None:
    one = RateCard.of(prompt=Decimal("0.50"), cached_prompt=Decimal(0), output=Decimal("2.0"))
    other = RateCard.of(prompt=Decimal("0.5"), cached_prompt=Decimal("0.00"), output=Decimal(2), origin="elsewhere")
    assert one.digest == other.digest


def test_any_other_price_has_another_digest() -> None:
    one = RateCard.of(prompt=Decimal(1), cached_prompt=Decimal(0), output=Decimal(2))
    other = RateCard.of(prompt=Decimal(1), cached_prompt=Decimal(2), output=Decimal(0))
    assert one.digest != other.digest


def test_scaled_prices_are_exact_to_the_last_digit_a_price_may_have() -> None:
    least, most = Decimal(1).scaleb(-PRICE_DIGITS_MOST), Decimal("9" * PRICE_DIGITS_MOST)
    card = RateCard.of(prompt=least, cached_prompt=Decimal(0), output=most)
    assert card.scaled == (1, 0, int(most) * 10**SCALE_DIGITS)
    assert copy(card).scaled == card.scaled


def test_scaled_prices_are_no_part_of_a_cards_value() -> None:
    one, other = (RateCard.of(prompt=Decimal(1), cached_prompt=Decimal(0), output=Decimal(2)) for _ in range(2))
    assert one.scaled
    assert one == other
    assert hash(one) == hash(other)
    assert repr(one) == repr(other)
