"""One formula, one rounding: tokens times prices."""

from __future__ import annotations

from app.domain.money import NANODOLLARS_PER_TOKEN_AT_ONE_USD_PER_MILLION, Nanodollars, rounded_quotient
from app.domain.pricing.rate_card import SCALE_DIGITS, RateCard
from app.domain.usage import Usage

#: Scaled prices per nanodollar.
_SCALE = 10**SCALE_DIGITS // NANODOLLARS_PER_TOKEN_AT_ONE_USD_PER_MILLION


def charge(*, usage: Usage, price: RateCard) -> Nanodollars:
    """What the attempt costs: computed prompt × prompt price + cached × cached price + output × output price.

    Reasoning tokens are output tokens. The sum is exact, in whole numbers of any size, and rounded once.
    """
    prompt, cached_prompt, output = price.scaled
    cached = usage.cached
    return rounded_quotient((usage.prompt - cached) * prompt + cached * cached_prompt + usage.output * output, _SCALE)
