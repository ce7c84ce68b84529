"""A rate card: what tokens cost at one target."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCard:
    """Prices in USD per million tokens, exact decimals. `digest` names this very card on every row that used it."""

    prompt: Decimal
    cached_prompt: Decimal
    output: Decimal
    #: Where the prices come from, for people: "policy", or "measured 2026-11-23 …".
    origin: str = "policy"
    digest: str = ""

    @classmethod
    def of(cls, *, prompt: Decimal, cached_prompt: Decimal, output: Decimal, origin: str = "policy") -> RateCard:
        """A card with its digest: the first 16 hex digits of SHA-256 over the three prices, normalised."""
        prices = "|".join(f"{price.normalize():f}" for price in (prompt, cached_prompt, output))
        digest = sha256(prices.encode()).hexdigest()[:16]
        return cls(prompt=prompt, cached_prompt=cached_prompt, output=output, origin=origin, digest=digest)
