from __future__ import annotations

from decimal import Decimal

import pytest

from app.domain.pricing.rate_card import RateCard
from app.domain.pricing.terms import ContextTier, ServiceTier, Terms
from tests.domain.pricing.lists import GPT_5_5, plain_sheet

SHEET = plain_sheet("1", "0.5", "2")


def test_tiers_stand_in_one_order_whatever_order_they_are_written_in() -> None:
    low, high = (ContextTier(above_tokens=tokens, sheet=SHEET) for tokens in (10, 20))
    flex, batch = (
        ServiceTier(name=name, sheet=SHEET, context_tiers=tiers)
        for name, tiers in (("flex", (high, low)), ("batch", ()))
    )
    one = Terms.of(SHEET, context_tiers=(high, low), service_tiers=(flex, batch))
    assert [tier.above_tokens for tier in one.context_tiers] == [10, 20]
    assert [tier.name for tier in one.service_tiers] == ["batch", "flex"]
    assert [tier.above_tokens for tier in one.service_tiers[1].context_tiers] == [10, 20]


@pytest.mark.parametrize("thresholds", [(10, 10), (-1,)])
def test_thresholds_that_say_nothing_clear_are_refused(thresholds: tuple[int, ...]) -> None:
    tiers = tuple(ContextTier(above_tokens=tokens, sheet=SHEET) for tokens in thresholds)
    with pytest.raises(ValueError, match="thresholds"):
        Terms.of(SHEET, context_tiers=tiers)
    with pytest.raises(ValueError, match="thresholds"):
        Terms.of(SHEET, service_tiers=(ServiceTier(name="flex", sheet=SHEET, context_tiers=tiers),))


@pytest.mark.parametrize("names", [("flex", "flex"), ("default",), ("",)])
def test_service_tiers_need_names_of_their_own(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="service tiers"):
        Terms.of(SHEET, service_tiers=tuple(ServiceTier(name=name, sheet=SHEET) for name in names))


def test_a_discount_reaches_every_price_of_tokens_and_no_fee() -> None:
    cheaper = RateCard.under(GPT_5_5.whole_list().times(Decimal("0.85")))
    assert cheaper.sheet().prompt == Decimal("4.25")
    assert cheaper.sheet(prompt_tokens=272_001).output == Decimal("38.25")
    assert cheaper.sheet(prompt_tokens=272_001, tier="flex").cached_prompt == Decimal("0.425")
    assert cheaper.sheet(tier="priority").prompt == Decimal("10.625")
    assert cheaper.sheet().thousand_searches == Decimal(10)
