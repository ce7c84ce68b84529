"""GPU time to money, the *standard* level: a machine's hourly price over its measured speed.

Formula (two-rate card): USD per computed prompt token = g / (3600 · P), USD per output token = g / (3600 · D), with
g the machines' USD per hour, P and D the measured prefill and decode rates in tokens per second at saturation.
A cached prompt token costs nothing to compute; its price is zero and its saving shows in the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from app.domain.money import EXACT
from app.domain.pricing.rate_card import RateCard

_SECONDS_PER_HOUR = Decimal(3600)
_TOKENS_PER_PRICE = Decimal(1_000_000)
#: Prices of a measured card carry this many decimals of USD per million tokens.
_PRICE_STEP = Decimal("0.000000001")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRates:
    """How fast a target really is, in tokens per second at saturation, and what was measured when."""

    target: str
    prefill_tokens_per_s: Decimal
    decode_tokens_per_s: Decimal
    model: str
    engine_version: str
    #: Unix seconds of the measurement; 0 when the policy gave the rates.
    measured_at_s: int = 0
    #: How many requests ran at once while measuring.
    concurrency: int = 1


def standard_card(*, usd_per_hour: Decimal, rates: MeasuredRates, origin: str) -> RateCard:
    """The rate card of a self-hosted target. `usd_per_hour` is for all its machines together, and above zero."""
    return RateCard.of(
        prompt=_usd_per_million(usd_per_hour=usd_per_hour, tokens_per_s=rates.prefill_tokens_per_s),
        cached_prompt=Decimal(0),
        output=_usd_per_million(usd_per_hour=usd_per_hour, tokens_per_s=rates.decode_tokens_per_s),
        origin=origin,
    )


def _usd_per_million(*, usd_per_hour: Decimal, tokens_per_s: Decimal) -> Decimal:
    per_token = EXACT.divide(usd_per_hour, EXACT.multiply(_SECONDS_PER_HOUR, tokens_per_s))
    return EXACT.quantize(EXACT.multiply(per_token, _TOKENS_PER_PRICE), _PRICE_STEP)
