"""A rate card: what tokens cost at one target."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256

from app.domain.money import EXACT

#: Digits of a price, those before and after the point together. With them no charge is ever rounded on its way.
PRICE_DIGITS_MOST = 17


#: Prices as whole numbers: USD per million tokens times ten to this power. No price has more digits behind the point.
SCALE_DIGITS = PRICE_DIGITS_MOST


class _Scaled:
    """Room for the prices as whole numbers, beside the card's fields: they are no part of its value."""

    __slots__ = ("_scaled",)
    _scaled: tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCard(_Scaled):
    """Prices in USD per million tokens, exact decimals. `digest` names this very card on every row that used it."""

    prompt: Decimal
    cached_prompt: Decimal
    output: Decimal
    #: Where the prices come from, for people: "policy", or "measured 2026-11-23 …".
    origin: str = "policy"
    digest: str = ""

    @property
    def scaled(self) -> tuple[int, int, int]:
        """The three prices, prompt, cached prompt and output, as whole numbers: see `SCALE_DIGITS`. Exact."""
        try:
            return self._scaled
        except AttributeError:
            prompt, cached_prompt, output = (
                int(EXACT.scaleb(price, SCALE_DIGITS)) for price in (self.prompt, self.cached_prompt, self.output)
            )
            object.__setattr__(self, "_scaled", (prompt, cached_prompt, output))
            return self._scaled

    @classmethod
    def of(cls, *, prompt: Decimal, cached_prompt: Decimal, output: Decimal, origin: str = "policy") -> RateCard:
        """A card with its digest: the first 16 hex digits of SHA-256 over the three prices, normalised.

        Raises ValueError for a price that is negative, not finite, or of more than `PRICE_DIGITS_MOST` digits.
        """
        for price in (prompt, cached_prompt, output):
            if not price.is_finite() or price < 0 or _digits(price) > PRICE_DIGITS_MOST:
                raise ValueError(f"{price} is no price: write 0 or more, with at most {PRICE_DIGITS_MOST} digits")
        prices = "|".join(f"{price.normalize():f}" for price in (prompt, cached_prompt, output))
        digest = sha256(prices.encode()).hexdigest()[:16]
        return cls(prompt=prompt, cached_prompt=cached_prompt, output=output, origin=origin, digest=digest)


def _digits(price: Decimal) -> int:
    """Digits from the first that is not zero to the last behind the point; for whole numbers, to the point."""
    _, digits, exponent = price.normalize().as_tuple()
    assert isinstance(exponent, int), "a finite number has an exponent"
    return max(len(digits) + max(exponent, 0), -exponent)
