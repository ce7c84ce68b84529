from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from app.domain.pricing.doubts import DoubtKind, disputed, much_changed, odd_prices, prices_by_place
from app.domain.pricing.rate_card import RateCard
from app.domain.pricing.terms import ServiceTier, Terms
from tests.domain.pricing.lists import GPT_5_5, plain_sheet


def card(prompt: str = "5", cached_prompt: str = "0.5", output: str = "30") -> RateCard:
    return RateCard.under(Terms(sheet=plain_sheet(prompt, cached_prompt, output)))


def test_a_sound_list_is_not_odd() -> None:
    assert list(odd_prices("a", GPT_5_5)) == []
    assert list(odd_prices("a", card(cached_prompt="5"))) == []


@pytest.mark.parametrize(
    ("odd", "kind"),
    [
        (card(cached_prompt="5.1"), DoubtKind.CACHED_ABOVE_PROMPT),
        (card(output="4.9"), DoubtKind.OUTPUT_BELOW_PROMPT),
        (card(prompt="0", cached_prompt="0"), DoubtKind.ZERO),
    ],
)
def test_what_is_odd_is_told(odd: RateCard, kind: DoubtKind) -> None:
    (doubt,) = odd_prices("a", odd)
    assert (doubt.name, doubt.kind) == ("a", kind)


@pytest.mark.parametrize("name", ["batch", "flex"])
def test_a_slow_tier_above_the_standard_one_is_odd_and_a_quick_one_is_not(name: str) -> None:
    dear = plain_sheet("6", "0.5", "30")
    services = (ServiceTier(name=name, sheet=dear), ServiceTier(name="priority", sheet=dear))
    odd = RateCard.under(Terms.of(plain_sheet("5", "0.5", "30"), service_tiers=services))
    assert [doubt.kind for doubt in odd_prices("a", odd)] == [DoubtKind.TIER_ABOVE_STANDARD]


@pytest.mark.parametrize(("after", "doubts"), [("6", 0), ("6.01", 1), ("4", 0), ("3.99", 1), ("5000", 1)])
def test_a_change_of_more_than_a_fifth_is_told(after: str, doubts: int) -> None:
    assert len([*much_changed("a", before=card(), after=card(prompt=after))]) == doubts


def test_a_price_that_becomes_nothing_is_told_and_one_that_stays_nothing_is_not() -> None:
    (doubt,) = much_changed("a", before=card(), after=card(cached_prompt="0"))
    assert doubt.message == "the price of cached prompt went from 0.5 to 0"
    assert list(much_changed("a", before=card(cached_prompt="0"), after=card(cached_prompt="0"))) == []


def test_a_change_inside_a_tier_is_told_with_its_place() -> None:
    terms = GPT_5_5.whole_list()
    long = replace(terms.context_tiers[0], sheet=plain_sheet("20", "1", "45"))
    after = RateCard.under(replace(terms, context_tiers=(long,)))
    (doubt,) = much_changed("a", before=GPT_5_5, after=after)
    assert doubt.message == "the price of prompt of prompts over 272,000 tokens went from 10 to 20"


def test_two_lists_that_agree_are_not_disputed_and_what_one_does_not_say_is_not_either() -> None:
    second = prices_by_place(GPT_5_5)
    assert list(disputed("a", GPT_5_5, second=second, second_name="b")) == []
    assert list(disputed("a", GPT_5_5, second={}, second_name="b")) == []
    assert list(disputed("a", card(), second={**second, ("", -1, "reasoning"): Decimal(9)}, second_name="b")) == []


def test_a_price_that_differs_is_disputed_but_not_for_the_noise_of_a_binary_fraction() -> None:
    place = ("flex", 272_000, "output")
    near, far = (prices_by_place(GPT_5_5) | {place: Decimal(usd)} for usd in ("22.500000001", "22.6"))
    assert list(disputed("a", GPT_5_5, second=near, second_name="b")) == []
    (doubt,) = disputed("a", GPT_5_5, second=far, second_name="b.json")
    assert doubt.message == (
        "the price of output in the tier flex of prompts over 272,000 tokens is 22.5 here and 22.6 in b.json"
    )
