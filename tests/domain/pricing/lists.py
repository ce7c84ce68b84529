"""Price lists for tests."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from app.domain.pricing.rate_card import RateCard
from app.domain.pricing.terms import ContextTier, ServiceTier, Sheet, Terms


def plain_sheet(prompt: str, cached_prompt: str, output: str, **more: Decimal) -> Sheet:
    return Sheet(prompt=Decimal(prompt), cached_prompt=Decimal(cached_prompt), output=Decimal(output), **more)


def _openai(prompt: str, cached_prompt: str, output: str) -> Sheet:
    return replace(plain_sheet(prompt, cached_prompt, output), thousand_searches=Decimal(10))


def _halved(name: str) -> ServiceTier:
    long = ContextTier(above_tokens=272_000, sheet=_openai("5", "0.5", "22.5"))
    return ServiceTier(name=name, sheet=_openai("2.5", "0.25", "15"), context_tiers=(long,))


#: The list of gpt-5.5 as of 2026-11-20.
GPT_5_5 = RateCard.under(
    Terms.of(
        _openai("5", "0.5", "30"),
        context_tiers=(ContextTier(above_tokens=272_000, sheet=_openai("10", "1", "45")),),
        service_tiers=(
            _halved("flex"),
            _halved("batch"),
            ServiceTier(name="priority", sheet=_openai("12.5", "1.25", "75")),
        ),
    ),
    origin="list of 2026-11-20",
)
