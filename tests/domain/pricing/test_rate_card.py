from __future__ import annotations

from copy import copy
from dataclasses import replace
from decimal import Decimal

import pytest

from app.domain.money import from_dollars
from app.domain.pricing.rate_card import PRICE_DIGITS_MOST, SCALE_DIGITS, RateCard
from app.domain.pricing.terms import Sheet, Terms
from tests.domain.pricing.lists import GPT_5_5, plain_sheet


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


def test_a_list_of_three_prices_is_the_same_card_as_the_three_prices() -> None:
    prices = {"prompt": Decimal(1), "cached_prompt": Decimal("0.1"), "output": Decimal(2)}
    assert RateCard.under(Terms(sheet=Sheet(**prices))) == RateCard.of(**prices)


def test_every_price_of_a_list_is_in_its_digest() -> None:
    terms = GPT_5_5.whole_list()
    sheet, long, flex = terms.sheet, terms.context_tiers[0], terms.service_tiers[1]
    others = [
        replace(terms, sheet=replace(sheet, cache_write=Decimal(5))),
        replace(terms, sheet=replace(sheet, thousand_searches=Decimal(11))),
        replace(terms, context_tiers=()),
        replace(terms, context_tiers=(replace(long, above_tokens=271_999),)),
        replace(terms, service_tiers=()),
        replace(terms, service_tiers=(replace(flex, name="slow"),)),
    ]
    assert len({RateCard.under(each).digest for each in (terms, *others)}) == 1 + len(others)


@pytest.mark.parametrize("price", ["-1", "NaN", "Infinity", "0.000000000000000001"])
def test_what_is_no_price_is_refused_wherever_it_stands(price: str) -> None:
    with pytest.raises(ValueError, match="is no price"):
        RateCard.under(Terms(sheet=plain_sheet("1", "1", "1", reasoning=Decimal(price))))


def test_the_sheet_that_applies_changes_at_the_threshold_and_with_the_tier() -> None:
    assert GPT_5_5.sheet(prompt_tokens=272_000).prompt == Decimal(5)
    assert GPT_5_5.sheet(prompt_tokens=272_001).prompt == Decimal(10)
    assert GPT_5_5.sheet(prompt_tokens=272_001, tier="priority").output == Decimal(75)
    assert GPT_5_5.sheet(tier="never heard of") == GPT_5_5.sheet()


def test_a_hold_for_a_long_prompt_is_made_at_the_prices_of_long_prompts() -> None:
    """Others reserve at the base rate and book at the long one: $0.60 were spent on a budget of $0.45."""
    short = GPT_5_5.bound(prompt_tokens_most=272_000, output_tokens_most=1_000, tiers=())
    long = GPT_5_5.bound(prompt_tokens_most=272_001, output_tokens_most=1_000, tiers=())
    assert (short, long) == (from_dollars(Decimal("1.39")), from_dollars(Decimal("2.76501")))


def test_a_bound_counts_every_tier_that_an_answer_may_name_unless_told_which() -> None:
    dearest = GPT_5_5.bound(prompt_tokens_most=1_000, output_tokens_most=1_000)
    assert dearest == from_dollars(Decimal("0.0875"))
    assert GPT_5_5.bound(prompt_tokens_most=1_000, output_tokens_most=1_000, tiers={"flex"}) == from_dollars(
        Decimal("0.035")
    )


def test_a_bound_by_three_prices_takes_the_dearer_of_prompt_and_cached_prompt() -> None:
    card = RateCard.of(prompt=Decimal(1), cached_prompt=Decimal(2), output=Decimal(3))
    assert card.bound(prompt_tokens_most=1_000, output_tokens_most=10) == 2_000_000 + 30_000


def test_searches_are_bounded_only_where_every_tier_prices_them() -> None:
    assert GPT_5_5.prices_searches
    assert not RateCard.of(prompt=Decimal(1), cached_prompt=Decimal(1), output=Decimal(1)).prices_searches
    with_fees = GPT_5_5.bound(prompt_tokens_most=0, output_tokens_most=0, searches_most=2)
    assert with_fees == from_dollars(Decimal("0.02"))


def test_what_a_decision_keeps_of_a_list_is_three_prices_under_its_digest() -> None:
    short, long = (GPT_5_5.plain_at(prompt_tokens=tokens) for tokens in (272_000, 272_001))
    assert (short.terms, long.terms) == (None, None)
    assert (short.prompt, long.prompt, short.digest, long.digest) == (5, 10, GPT_5_5.digest, GPT_5_5.digest)
    assert GPT_5_5.plain_at(prompt_tokens=1) is short
    assert short.plain_at(prompt_tokens=272_001) is short
