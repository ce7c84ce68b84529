from __future__ import annotations

from decimal import Decimal

from app.domain.pricing.rate_card import RateCard


def test_the_same_prices_have_the_same_digest_however_they_are_written() -> None:
    one = RateCard.of(prompt=Decimal("0.50"), cached_prompt=Decimal(0), output=Decimal("2.0"))
    other = RateCard.of(prompt=Decimal("0.5"), cached_prompt=Decimal("0.00"), output=Decimal(2), origin="elsewhere")
    assert one.digest == other.digest


def test_any_other_price_has_another_digest() -> None:
    one = RateCard.of(prompt=Decimal(1), cached_prompt=Decimal(0), output=Decimal(2))
    other = RateCard.of(prompt=Decimal(1), cached_prompt=Decimal(2), output=Decimal(0))
    assert one.digest != other.digest
