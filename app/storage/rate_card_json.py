"""Price lists as JSON: every price a decimal as text, exactly; only what is given is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from app.domain.pricing.rate_card import RateCard
from app.domain.pricing.terms import ContextTier, ServiceTier, Sheet, Terms


def list_as_json(card: RateCard) -> dict[str, object]:
    """The card's whole list; `card_from_json` makes the same card of it."""
    terms = card.whole_list()
    return {
        "prices": _sheet(terms.sheet),
        "context_tiers": _context_tiers(terms.context_tiers),
        "service_tiers": [
            {
                "name": tier.name,
                "prices": _sheet(tier.sheet),
                "context_tiers": _context_tiers(tier.context_tiers),
            }
            for tier in terms.service_tiers
        ],
    }


def card_from_json(written: Mapping[str, Any], *, origin: str) -> RateCard:
    """The card. Raises ValueError and KeyError for what `list_as_json` never wrote."""
    return RateCard.under(
        Terms.of(
            _read_sheet(written["prices"]),
            context_tiers=_read_context_tiers(written["context_tiers"]),
            service_tiers=tuple(
                ServiceTier(
                    name=tier["name"],
                    sheet=_read_sheet(tier["prices"]),
                    context_tiers=_read_context_tiers(tier["context_tiers"]),
                )
                for tier in written["service_tiers"]
            ),
        ),
        origin=origin,
    )


def _sheet(sheet: Sheet) -> dict[str, str]:
    return {name: f"{price.normalize():f}" for name, price in sheet.prices()}


def _context_tiers(tiers: Sequence[ContextTier]) -> list[dict[str, object]]:
    return [{"above_tokens": tier.above_tokens, "prices": _sheet(tier.sheet)} for tier in tiers]


def _read_sheet(prices: Mapping[str, str]) -> Sheet:
    return Sheet(**{name: Decimal(price) for name, price in prices.items()})


def _read_context_tiers(tiers: Sequence[Mapping[str, Any]]) -> tuple[ContextTier, ...]:
    return tuple(ContextTier(above_tokens=tier["above_tokens"], sheet=_read_sheet(tier["prices"])) for tier in tiers)
