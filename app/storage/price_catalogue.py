"""List prices out of the package genai-prices: its data only, never its arithmetic. The only door to it.

The package is imported on first use (about 0.1 s and 11 MB), so that a gateway whose policy gives every price itself
never loads it. Its prices carry start dates, thresholds ("crossing applies to all tokens") and variants by service
tier; each span of days between two changes becomes one card.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from importlib import import_module, metadata
from typing import Any, Final

from app.domain.pricing.price_list import DatedCard
from app.domain.pricing.rate_card import RateCard
from app.domain.pricing.terms import STANDARD_TIERS, ContextTier, ServiceTier, Sheet, Terms
from app.ports.prices import CatalogueModel

PACKAGE: Final = "genai-prices"
#: The catalogue's price keys and ours.
_KINDS: Final[Mapping[str, str]] = {
    "input_mtok": "prompt",
    "cache_read_mtok": "cached_prompt",
    "output_mtok": "output",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_prompt",
    "output_audio_mtok": "audio_output",
    "web_searches_kcount": "thousand_searches",
}
#: What a variant may depend on to be a service tier of ours.
_TIER_KEYS: Final = ("service_tier", "processing", "speed")
#: A day before any change of price.
_EVER: Final = date(2000, 1, 1)


class PackagedCatalogue:
    """`ports.prices.Catalogue` over the installed genai-prices."""

    @property
    def version(self) -> str:
        """`genai-prices` and its version."""
        return f"{PACKAGE} {metadata.version(PACKAGE)}"

    def find(self, name: str) -> CatalogueModel | None:
        """By `seller/model`; the exact name first, then whichever model claims it."""
        seller_id, _, wanted = name.partition("/")
        for seller in _sellers():
            if seller.id == seller_id:
                found = next((model for model in seller.models if model.id == wanted), None)
                found = found or next((model for model in seller.models if model.is_match(wanted)), None)
                return None if found is None else self._read(seller.id, found)
        return None

    def models(self) -> Iterator[CatalogueModel]:
        """All of them, by name."""
        known = {f"{seller.id}/{model.id}": (seller.id, model) for seller in _sellers() for model in seller.models}
        for _, (seller_id, model) in sorted(known.items(), key=operator.itemgetter(0)):
            yield self._read(seller_id, model)

    def _read(self, seller_id: str, model: Any) -> CatalogueModel:
        name = f"{seller_id}/{model.id}"
        cards: tuple[DatedCard, ...] = ()
        because = ""
        try:
            cards = tuple(_cards(model, origin=f"{self.version}, {name}"))
        except _NotOurs as fault:
            because = str(fault)
        except ValueError as fault:
            because = f"the catalogue has a price that is none: {fault}"
        return CatalogueModel(
            name=name,
            title=model.name or model.id,
            context_tokens=model.context_window,
            cards=cards,
            because=because,
            also_billed=tuple(sorted(_strangers(model))),
        )


class _NotOurs(Exception):
    """The model is billed in a way that no rate card says."""


def _sellers() -> Any:
    return import_module("genai_prices.data").providers


def _cards(model: Any, *, origin: str) -> Iterator[DatedCard]:
    starts = sorted(_starts(model))
    spans = zip([None, *starts], [*starts, None], strict=True)
    open_span: DatedCard | None = None
    for first, last in spans:
        card = RateCard.under(_terms(model, first or min([_EVER, *starts]) - timedelta(days=1)), origin=origin)
        if open_span is not None and open_span.card == card:
            open_span = DatedCard(card=card, valid_from=open_span.valid_from, valid_to=last)
            continue
        if open_span is not None:
            yield open_span
        open_span = DatedCard(card=card, valid_from=first, valid_to=last)
    if open_span is not None:
        yield open_span


def _starts(model: Any) -> set[date]:
    """The days on which something of the price changes. Raises _NotOurs where hours of the day count."""
    dated = [*(model.prices if isinstance(model.prices, list) else ()), *(model.price_variants or ())]
    constraints = [each.constraint for each in dated if each.constraint is not None]
    if any(not hasattr(each, "start_date") for each in constraints):
        raise _NotOurs("its price changes with the hour of the day: give the target prices of its own")
    return {each.start_date for each in constraints}


def _terms(model: Any, day: date) -> Terms:
    moment = datetime.combine(day, time(), UTC)
    standard = _by_kind(model.get_prices(moment))
    if "prompt" not in standard or "output" not in standard:
        raise _NotOurs("it is not billed by prompt and output tokens: give the target prices of its own")
    tiers = []
    for name, context in sorted(_tiers(model).items()):
        prices = _by_kind(model.get_prices(moment, context))
        if prices != standard:
            tiers.append(ServiceTier(name=name, sheet=_sheet(prices, 0), context_tiers=_context_tiers(prices)))
    return Terms.of(_sheet(standard, 0), context_tiers=_context_tiers(standard), service_tiers=tuple(tiers))


def _by_kind(prices: Any) -> dict[str, Any]:
    """A decimal or a tiered price by our name of its kind."""
    written = {key: price for key, price in vars(prices).items() if price is not None}
    return {kind: written[key] for key, kind in _KINDS.items() if key in written}


def _context_tiers(prices: Mapping[str, Any]) -> tuple[ContextTier, ...]:
    thresholds = {tier.start for price in prices.values() if hasattr(price, "tiers") for tier in price.tiers}
    return tuple(ContextTier(above_tokens=tokens, sheet=_sheet(prices, tokens + 1)) for tokens in sorted(thresholds))


def _sheet(prices: Mapping[str, Any], prompt_tokens: int) -> Sheet:
    at = {kind: _price_at(price, prompt_tokens) for kind, price in prices.items()}
    return Sheet(**{"cached_prompt": at["prompt"], **at})


def _price_at(price: Any, prompt_tokens: int) -> Decimal:
    """Of a tiered price, that of the highest threshold which so long a prompt exceeds."""
    if not hasattr(price, "tiers"):
        return Decimal(price)
    exceeded = [tier.price for tier in price.tiers if prompt_tokens > tier.start]
    return Decimal(exceeded[-1] if exceeded else price.base)


def _tiers(model: Any) -> dict[str, dict[str, str]]:
    """Service tiers by name, with what the catalogue wants to hear to price them."""
    found: dict[str, dict[str, str]] = {}
    for variant in model.price_variants or ():
        match [*variant.when.items()]:
            case [(key, value)] if key in _TIER_KEYS and value.lower() not in STANDARD_TIERS:
                found[value.lower()] = dict(variant.when)
    return found


def _strangers(model: Any) -> Iterator[str]:
    """Price keys and variants that no card of ours carries."""
    spans = model.prices if isinstance(model.prices, list) else [model]
    keys = {key for span in spans for key, price in vars(span.prices).items() if price is not None}
    yield from keys - _KINDS.keys()
    for variant in model.price_variants or ():
        if len(variant.when) != 1 or next(iter(variant.when)) not in _TIER_KEYS:
            yield " and ".join(f"{key}={value}" for key, value in sorted(variant.when.items()))
