from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.money import from_dollars
from app.domain.pricing.charge import SEARCHES_UNPRICED, TIER_UNKNOWN, charge, price_flags
from app.domain.pricing.rate_card import RateCard
from app.domain.pricing.terms import ContextTier, ServiceTier, Sheet, Terms
from app.domain.usage import Usage
from tests.domain.pricing.lists import GPT_5_5, plain_sheet

PRICES = st.decimals(min_value=0, max_value=1000, places=9, allow_nan=False)
TOKENS = st.integers(min_value=0, max_value=10_000_000)

#: The same model by three prices alone.
SHORT = RateCard.of(prompt=Decimal(5), cached_prompt=Decimal("0.5"), output=Decimal(30))


@pytest.mark.parametrize("card", [SHORT, GPT_5_5], ids=["three prices", "the whole list"])
@pytest.mark.parametrize(
    ("prompt", "cached", "output", "usd"), [(1_000, 0, 500, "0.02"), (10_000, 8_000, 500, "0.029")]
)
def test_published_price_vectors_come_out_to_the_last_unit(
    card: RateCard, prompt: int, cached: int, output: int, usd: str
) -> None:
    usage = Usage(prompt=prompt, cached=cached, output=output)
    assert charge(usage=usage, price=card) == from_dollars(Decimal(usd))


@pytest.mark.parametrize(
    ("tier", "prompt", "cached", "output", "usd"),
    [
        ("", 272_000, 0, 1_000, "1.39"),
        ("", 272_001, 0, 1_000, "2.76501"),
        ("default", 272_001, 0, 1_000, "2.76501"),
        ("flex", 10_000, 8_000, 500, "0.0145"),
        ("priority", 10_000, 8_000, 500, "0.0725"),
        ("batch", 10_000, 8_000, 500, "0.0145"),
        ("batch", 300_000, 0, 1_000, "1.5225"),
    ],
)
def test_vectors_of_long_prompts_and_service_tiers_come_out_to_the_last_unit(
    tier: str, prompt: int, cached: int, output: int, usd: str
) -> None:
    usage = Usage(prompt=prompt, cached=cached, output=output, tier=tier)
    assert charge(usage=usage, price=GPT_5_5) == from_dollars(Decimal(usd))


@given(prompt=TOKENS, cached=TOKENS, output=TOKENS, a=PRICES, b=PRICES, c=PRICES)
def test_a_charge_is_the_exact_sum_rounded_once(
    prompt: int, cached: int, output: int, a: Decimal, b: Decimal, c: Decimal
) -> None:
    cached = min(cached, prompt)
    exact = 1000 * ((prompt - cached) * Fraction(a) + cached * Fraction(b) + output * Fraction(c))
    got = charge(
        usage=Usage(prompt=prompt, cached=cached, output=output),
        price=RateCard.of(prompt=a, cached_prompt=b, output=c),
    )
    assert abs(Fraction(got) - exact) <= Fraction(1, 2)


@given(prompt=TOKENS, output=TOKENS)
def test_reasoning_tokens_are_not_charged_twice(prompt: int, output: int) -> None:
    plain = charge(usage=Usage(prompt=prompt, output=output), price=SHORT)
    assert charge(usage=Usage(prompt=prompt, output=output, reasoning=output), price=SHORT) == plain
    assert charge(usage=Usage(prompt=prompt, output=output, reasoning=output), price=GPT_5_5) == charge(
        usage=Usage(prompt=prompt, output=output), price=GPT_5_5
    )


def test_cached_and_written_tokens_are_charged_once_each_at_their_own_price() -> None:
    """What others book twice: 41,520 prompt tokens of which 39,000 were read from the cache and 2,000 written."""
    claude = RateCard.under(
        Terms(
            sheet=Sheet(
                prompt=Decimal(3),
                cached_prompt=Decimal("0.3"),
                output=Decimal(15),
                cache_write=Decimal("3.75"),
                cache_write_1h=Decimal(6),
            )
        )
    )
    usage = Usage(prompt=41_520, cached=39_000, cache_write=2_000, cache_write_1h=500, output=100)
    exact = 520 * 3 + 39_000 * Decimal("0.3") + 1_500 * Decimal("3.75") + 500 * 6 + 100 * 15
    assert charge(usage=usage, price=claude) == from_dollars(exact / 1_000_000)


def test_written_tokens_without_a_price_of_their_own_cost_what_prompt_tokens_do() -> None:
    usage = Usage(prompt=1_000, cache_write=800, cache_write_1h=300, output=0)
    assert charge(usage=usage, price=SHORT) == charge(usage=Usage(prompt=1_000, output=0), price=SHORT)
    assert charge(usage=usage, price=GPT_5_5) == charge(usage=Usage(prompt=1_000, output=0), price=GPT_5_5)


def test_audio_reasoning_and_searches_are_charged_at_their_own_prices() -> None:
    card = RateCard.under(
        Terms(
            sheet=Sheet(
                prompt=Decimal(2),
                cached_prompt=Decimal(1),
                output=Decimal(8),
                reasoning=Decimal(9),
                audio_prompt=Decimal(40),
                audio_output=Decimal(80),
                thousand_searches=Decimal(10),
            )
        )
    )
    usage = Usage(prompt=100, cached=10, audio_prompt=30, output=50, reasoning=20, audio_output=5, searches=3)
    exact = 60 * 2 + 30 * 40 + 10 * 1 + 25 * 8 + 20 * 9 + 5 * 80
    assert charge(usage=usage, price=card) == from_dollars(Decimal(exact) / 1_000_000 + Decimal("0.03"))


def test_audio_that_was_read_from_the_cache_costs_the_cached_price() -> None:
    card = RateCard.under(Terms(sheet=plain_sheet("2", "1", "8", audio_prompt=Decimal(40))))
    usage = Usage(prompt=100, cached=90, audio_prompt=100, output=0)
    assert charge(usage=usage, price=card) == (10 * 40 + 90) * 1_000


def test_an_unknown_service_tier_costs_the_standard_prices_and_says_so() -> None:
    usage = Usage(prompt=10_000, cached=8_000, output=500, tier="ultrafast")
    assert charge(usage=usage, price=GPT_5_5) == from_dollars(Decimal("0.029"))
    assert price_flags(usage=usage, price=GPT_5_5) == (TIER_UNKNOWN,)
    assert price_flags(usage=usage, price=SHORT) == (TIER_UNKNOWN,)


@pytest.mark.parametrize("tier", ["", "default", "standard", "flex"])
def test_a_known_service_tier_is_not_flagged(tier: str) -> None:
    assert price_flags(usage=Usage(prompt=1, output=1, tier=tier), price=GPT_5_5) == ()


def test_searches_without_a_price_are_flagged_and_those_with_one_are_not() -> None:
    usage = Usage(prompt=1, output=1, searches=1)
    assert price_flags(usage=usage, price=SHORT) == (SEARCHES_UNPRICED,)
    assert price_flags(usage=usage, price=GPT_5_5) == ()


SHEETS = st.builds(
    Sheet,
    prompt=PRICES,
    cached_prompt=PRICES,
    output=PRICES,
    cache_write=st.none() | PRICES,
    cache_write_1h=st.none() | PRICES,
    reasoning=st.none() | PRICES,
    audio_prompt=st.none() | PRICES,
    audio_output=st.none() | PRICES,
    thousand_searches=st.none() | PRICES,
)
CONTEXT_TIERS = st.lists(
    st.builds(ContextTier, above_tokens=st.integers(0, 2_000), sheet=SHEETS),
    max_size=2,
    unique_by=lambda tier: tier.above_tokens,
).map(tuple)
LISTS = st.builds(
    Terms.of,
    SHEETS,
    context_tiers=CONTEXT_TIERS,
    service_tiers=st.builds(ServiceTier, name=st.just("flex"), sheet=SHEETS, context_tiers=CONTEXT_TIERS).map(
        lambda tier: (tier,)
    ),
)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Within 2,500 prompt tokens, 2,500 output tokens and 3 searches."""
    cached, write, computed = (draw(st.integers(0, most)) for most in (1_000, 700, 800))
    output = draw(st.integers(0, 2_500))
    reasoning = draw(st.integers(0, output))
    return Usage(
        prompt=cached + write + computed,
        cached=cached,
        cache_write=write,
        cache_write_1h=draw(st.integers(0, write)),
        audio_prompt=draw(st.integers(0, cached + write + computed)),
        output=output,
        reasoning=reasoning,
        audio_output=draw(st.integers(0, output)),
        searches=draw(st.integers(0, 3)),
        tier=draw(st.sampled_from(["", "default", "flex", "priority"])),
    )


@settings(max_examples=200)
@given(terms=LISTS, usage=usages(), spare=st.integers(0, 500))
def test_no_usage_within_the_limits_is_charged_above_the_bound(terms: Terms, usage: Usage, spare: int) -> None:
    card = RateCard.under(terms)
    most = card.bound(
        prompt_tokens_most=usage.prompt + spare, output_tokens_most=usage.output + spare, searches_most=usage.searches
    )
    assert 0 <= charge(usage=usage, price=card) <= most


@settings(max_examples=100)
@given(terms=LISTS, usage=usages())
def test_every_token_is_charged_as_exactly_one_kind(terms: Terms, usage: Usage) -> None:
    """With every price of a list the same, it does not matter which kind a token is."""
    one = Decimal(3)
    same = RateCard.under(Terms(sheet=terms.sheet.changed(lambda _: one)))
    searches = usage.searches * (terms.sheet.thousand_searches or Decimal(0)) / 1_000
    expected = from_dollars(Decimal(usage.prompt + usage.output) * one / 1_000_000 + searches)
    assert charge(usage=usage, price=same) == expected
