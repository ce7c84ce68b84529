"""One formula, one rounding: tokens times prices."""

from __future__ import annotations

from decimal import Decimal

from app.domain.money import EXACT, NANODOLLARS_PER_TOKEN_AT_ONE_USD_PER_MILLION, Nanodollars, rounded
from app.domain.pricing.rate_card import RateCard
from app.domain.usage import Usage

_SCALE = Decimal(NANODOLLARS_PER_TOKEN_AT_ONE_USD_PER_MILLION)


def charge(*, usage: Usage, price: RateCard) -> Nanodollars:
    """What the attempt costs: computed prompt × prompt price + cached × cached price + output × output price.

    Reasoning tokens are output tokens. The sum is exact and rounded once.
    """
    total = EXACT.multiply(Decimal(usage.computed_prompt), price.prompt)
    total = EXACT.add(total, EXACT.multiply(Decimal(usage.cached), price.cached_prompt))
    total = EXACT.add(total, EXACT.multiply(Decimal(usage.output), price.output))
    return rounded(EXACT.multiply(total, _SCALE))
