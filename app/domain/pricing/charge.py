"""One formula, one rounding: tokens times prices."""

from __future__ import annotations

from app.domain.money import Nanodollars, rounded_quotient
from app.domain.pricing.rate_card import SCALE, RateCard
from app.domain.usage import Usage

#: The answer names a service tier that the card does not know: it is charged at the standard prices.
TIER_UNKNOWN = "tier_unknown"
#: The seller searched the web, and the card does not say what that costs: the fee is not in the charge.
SEARCHES_UNPRICED = "searches_unpriced"


def charge(*, usage: Usage, price: RateCard) -> Nanodollars:
    """What the attempt costs: every token at the price of its kind, computed prompt × prompt price + cached × cached
    price + output × output price, and where the card says more, cache writes, reasoning, audio and searches.

    A prompt over a threshold of the card moves the whole request to that tier's prices; the service tier is the one
    that the answer named. The sum is exact, in whole numbers of any size, and rounded once.
    """
    if price.terms is None:
        prompt, cached_prompt, output = price.scaled
        cached = usage.cached
        return rounded_quotient(
            (usage.prompt - cached) * prompt + cached * cached_prompt + usage.output * output, SCALE
        )
    return rounded_quotient(_sum(usage, price), SCALE)


def price_flags(*, usage: Usage, price: RateCard) -> tuple[str, ...]:
    """What the charge of this usage could not be sure of; each flag stands on the attempt's row."""
    if not usage.tier and not usage.searches:
        return ()
    tier_unknown = not price.knows_tier(usage.tier)
    fee = price.sheet(prompt_tokens=usage.prompt, tier=usage.tier).thousand_searches
    flags = ((TIER_UNKNOWN, tier_unknown), (SEARCHES_UNPRICED, usage.searches > 0 and fee is None))
    return tuple(flag for flag, is_so in flags if is_so)


def _sum(usage: Usage, price: RateCard) -> int:
    whole = price.whole(prompt_tokens=usage.prompt, tier=usage.tier)
    prompt, cached_prompt, output, write, write_1h, reasoning, audio_prompt, audio_output, search = whole
    computed = usage.computed_prompt
    audio_in = min(usage.audio_prompt, max(computed, 0))
    audio_out = min(usage.audio_output, max(usage.output - usage.reasoning, 0))
    return (
        (computed - audio_in) * prompt
        + audio_in * audio_prompt
        + usage.cached * cached_prompt
        + (usage.cache_write - usage.cache_write_1h) * write
        + usage.cache_write_1h * write_1h
        + (usage.output - usage.reasoning - audio_out) * output
        + usage.reasoning * reasoning
        + audio_out * audio_output
        + usage.searches * search
    )
