from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.money import from_dollars
from app.domain.pricing.charge import charge
from app.domain.pricing.rate_card import RateCard
from app.domain.usage import Usage

PRICES = st.decimals(min_value=0, max_value=1000, places=9, allow_nan=False)
TOKENS = st.integers(min_value=0, max_value=10_000_000)

#: gpt-5.5 below its long-context threshold: vectors V1 and V2 of the price reference (as of 2026-11-20).
GPT_5_5 = RateCard.of(prompt=Decimal(5), cached_prompt=Decimal("0.5"), output=Decimal(30))


@pytest.mark.parametrize(
    ("prompt", "cached", "output", "usd"), [(1_000, 0, 500, "0.02"), (10_000, 8_000, 500, "0.029")]
)
def test_published_price_vectors_come_out_to_the_last_unit(prompt: int, cached: int, output: int, usd: str) -> None:
    usage = Usage(prompt=prompt, cached=cached, output=output)
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
    plain = charge(usage=Usage(prompt=prompt, output=output), price=GPT_5_5)
    assert charge(usage=Usage(prompt=prompt, output=output, reasoning=output), price=GPT_5_5) == plain
