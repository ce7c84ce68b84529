"""One formula, one rounding: tokens times prices."""

from __future__ import annotations

from app.domain.money import NANODOLLARS_PER_TOKEN_AT_ONE_USD_PER_MILLION, Nanodollars, rounded
from app.domain.pricing.rate_card import RateCard
from app.domain.usage import Usage


def charge(*, usage: Usage, price: RateCard) -> Nanodollars:
    """What the attempt costs: computed prompt × prompt price + cached × cached price + output × output price.

    Reasoning tokens are output tokens. The sum is exact and rounded once: a card's prices have at most
    `PRICE_DIGITS_MOST` digits, so that products with up to a billion tokens stay within Python's 28.
    """
    total = usage.computed_prompt * price.prompt + usage.cached * price.cached_prompt + usage.output * price.output
    return rounded(total * NANODOLLARS_PER_TOKEN_AT_ONE_USD_PER_MILLION)
