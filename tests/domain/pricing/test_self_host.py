from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from app.domain.pricing.self_host import MeasuredRates, standard_card

RATES = st.decimals(min_value="0.01", max_value=1_000_000, places=2)


def _rates(prefill: Decimal, decode: Decimal) -> MeasuredRates:
    return MeasuredRates(
        target="home", prefill_tokens_per_s=prefill, decode_tokens_per_s=decode, model="m", engine_version="e 1"
    )


def test_the_price_per_token_is_the_hour_over_the_tokens_of_an_hour() -> None:
    card = standard_card(usd_per_hour=Decimal("2.65"), rates=_rates(Decimal(6000), Decimal(6000)), origin="test")
    # The published example: 2.65 USD an hour at 6,000 tokens/s are 0.1227 USD per million tokens.
    assert card.output.quantize(Decimal("0.0001")) == Decimal("0.1227")


@given(usd=st.decimals(min_value="0.01", max_value=1000, places=2), prefill=RATES, decode=RATES)
def test_an_hour_of_decode_at_the_measured_rate_costs_the_hour(usd: Decimal, prefill: Decimal, decode: Decimal) -> None:
    card = standard_card(usd_per_hour=usd, rates=_rates(prefill, decode), origin="test")
    tokens_of_an_hour = decode * 3600
    cost = card.output * tokens_of_an_hour / 1_000_000
    rounding = Decimal("0.0000000005") * tokens_of_an_hour / 1_000_000
    assert abs(cost - usd) <= rounding + Decimal("1e-20")


def test_a_cached_prompt_token_costs_nothing_where_we_own_the_machine() -> None:
    card = standard_card(usd_per_hour=Decimal(1), rates=_rates(Decimal(10), Decimal(10)), origin="test")
    assert card.cached_prompt == 0
