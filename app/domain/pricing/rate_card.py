"""A rate card: what tokens cost at one target."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256

from app.domain.money import EXACT, NANODOLLARS_PER_TOKEN_AT_ONE_USD_PER_MILLION, Nanodollars, rounded_quotient
from app.domain.pricing.terms import STANDARD_TIERS, Sheet, Terms

#: Digits of a price, those before and after the point together. With them no charge is ever rounded on its way.
PRICE_DIGITS_MOST = 17


#: Prices as whole numbers: USD per million tokens times ten to this power. No price has more digits behind the point.
SCALE_DIGITS = PRICE_DIGITS_MOST
#: Scaled prices per nanodollar.
SCALE = 10**SCALE_DIGITS // NANODOLLARS_PER_TOKEN_AT_ONE_USD_PER_MILLION
#: A search at 1 USD a thousand costs as much as so many tokens at 1 USD a million.
_TOKENS_PER_SEARCH = 1_000

#: A sheet in whole numbers, each kind at its price: prompt, cached prompt, output, cache write, the same for an hour,
#: reasoning, audio prompt, audio output, one search (0 where its price is not known).
Whole = tuple[int, int, int, int, int, int, int, int, int]


class _Scaled:
    """Room for the prices as whole numbers, beside the card's fields: they are no part of its value."""

    __slots__ = ("_ceilings", "_plain", "_scaled", "_wholes")
    _scaled: tuple[int, int, int]
    #: By service tier: threshold and prices, the highest threshold first, that of -1 last.
    _wholes: dict[str, tuple[tuple[int, Whole, Sheet], ...]]
    #: By threshold: the standard prices of prompts over it, as `plain_at` gives them.
    _plain: dict[int, RateCard]
    #: Service tier, threshold, and the dearest price of a prompt token, of an output token and of a search there.
    _ceilings: tuple[tuple[str, int, int, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCard(_Scaled):
    """Prices in USD per million tokens, exact decimals. `digest` names this very card on every row that used it."""

    prompt: Decimal
    cached_prompt: Decimal
    output: Decimal
    #: Where the prices come from, for people: "policy", or "measured 2026-11-23 …".
    origin: str = "policy"
    digest: str = ""
    #: The whole price list; None: the three prices are all of it, in every tier and for every prompt.
    terms: Terms | None = None

    @property
    def scaled(self) -> tuple[int, int, int]:
        """The three prices, prompt, cached prompt and output, as whole numbers: see `SCALE_DIGITS`. Exact."""
        try:
            return self._scaled
        except AttributeError:
            prompt, cached_prompt, output = (_scaled(price) for price in (self.prompt, self.cached_prompt, self.output))
            object.__setattr__(self, "_scaled", (prompt, cached_prompt, output))
            return self._scaled

    def whole(self, *, prompt_tokens: int, tier: str) -> Whole:
        """The prices of such a request in whole numbers. A service tier that the card does not know costs the
        standard prices; whoever books it says so (`knows_tier`)."""
        return self._applied(prompt_tokens=prompt_tokens, tier=tier)[1]

    def sheet(self, *, prompt_tokens: int = 0, tier: str = "") -> Sheet:
        """The prices that apply to such a request, for people and for the books."""
        return self._applied(prompt_tokens=prompt_tokens, tier=tier)[2]

    def plain_at(self, *, prompt_tokens: int) -> RateCard:
        """The three standard prices of such a prompt alone, under this card's digest: what a decision looked at, and
        small enough for every record of one. The card itself where three prices are all of it."""
        if self.terms is None:
            return self
        try:
            known = self._plain
        except AttributeError:
            known = {}
            object.__setattr__(self, "_plain", known)
        above_tokens, _, sheet = self._applied(prompt_tokens=prompt_tokens, tier="")
        if above_tokens not in known:
            known[above_tokens] = RateCard(
                prompt=sheet.prompt,
                cached_prompt=sheet.cached_prompt,
                output=sheet.output,
                origin=self.origin,
                digest=self.digest,
            )
        return known[above_tokens]

    def knows_tier(self, tier: str) -> bool:
        """The card has prices for answers that name this service tier."""
        if tier in STANDARD_TIERS:
            return True
        return self.terms is not None and any(each.name == tier for each in self.terms.service_tiers)

    def bound(
        self,
        *,
        prompt_tokens_most: int,
        output_tokens_most: int,
        searches_most: int = 0,
        tiers: Collection[str] | None = None,
    ) -> Nanodollars:
        """The highest charge of any usage within these limits: for holds, which have to be true upper bounds.

        `prompt_tokens_most` counts every prompt token, cached, written and audio ones too; `output_tokens_most` those
        of all answers (`n` of them) together. Each token counts as the dearest kind it can be, in the dearest context
        tier that so long a prompt reaches, in any service tier that the answer may come to name: those of `tiers` and
        the standard one, or with None every one there is, as the tier in the *answer* is billed. The fee of a search
        is in it where the card knows one (`prices_searches`).
        """
        if self.terms is None:
            prompt, cached_prompt, output = self.scaled
            dearest = prompt if prompt >= cached_prompt else cached_prompt
            return rounded_quotient(prompt_tokens_most * dearest + output_tokens_most * output, SCALE)
        most = 0
        for tier, above_tokens, prompt, output, search in self._ceilings_known():
            if prompt_tokens_most > above_tokens and (tiers is None or not tier or tier in tiers):
                most = max(most, prompt_tokens_most * prompt + output_tokens_most * output + searches_most * search)
        return rounded_quotient(most, SCALE)

    @property
    def prices_searches(self) -> bool:
        """The card knows what a search costs, in every tier; otherwise a request that searches has no upper bound."""
        return self.terms is not None and all(
            sheet.thousand_searches is not None for _, _, sheet in self.terms.sheets()
        )

    @classmethod
    def of(cls, *, prompt: Decimal, cached_prompt: Decimal, output: Decimal, origin: str = "policy") -> RateCard:
        """A card with its digest: the first 16 hex digits of SHA-256 over the three prices, normalised.

        Raises ValueError for a price that is negative, not finite, or of more than `PRICE_DIGITS_MOST` digits.
        """
        return cls.under(Terms(sheet=Sheet(prompt=prompt, cached_prompt=cached_prompt, output=output)), origin=origin)

    @classmethod
    def under(cls, terms: Terms, *, origin: str = "policy") -> RateCard:
        """A card of a whole price list; its digest is over all of it, and that of `of` where three prices say it all.

        Raises ValueError as `of` does.
        """
        for _, _, sheet in terms.sheets():
            for _, price in sheet.prices():
                if not price.is_finite() or price < 0 or _digits(price) > PRICE_DIGITS_MOST:
                    raise ValueError(f"{price:f} is no price: write 0 or more, with at most {PRICE_DIGITS_MOST} digits")
        sheet = terms.sheet
        return cls(
            prompt=sheet.prompt,
            cached_prompt=sheet.cached_prompt,
            output=sheet.output,
            origin=origin,
            digest=sha256("\n".join(_lines(terms)).encode()).hexdigest()[:16],
            terms=None if terms.is_plain else terms,
        )

    def whole_list(self) -> Terms:
        """The price list, also where it is but three prices."""
        if self.terms is not None:
            return self.terms
        return Terms(sheet=Sheet(prompt=self.prompt, cached_prompt=self.cached_prompt, output=self.output))

    def _applied(self, *, prompt_tokens: int, tier: str) -> tuple[int, Whole, Sheet]:
        wholes = self._wholes_known()
        for each in wholes.get(tier) or wholes[""]:
            if prompt_tokens > each[0]:
                return each
        return wholes[""][-1]

    def _wholes_known(self) -> dict[str, tuple[tuple[int, Whole, Sheet], ...]]:
        try:
            return self._wholes
        except AttributeError:
            wholes: dict[str, list[tuple[int, Whole, Sheet]]] = {}
            for tier, above_tokens, sheet in self.whole_list().sheets():
                wholes.setdefault(tier, []).append((above_tokens, _whole(sheet), sheet))
            falling = {tier: tuple(reversed(each)) for tier, each in wholes.items()}
            object.__setattr__(self, "_wholes", falling)
            return falling

    def _ceilings_known(self) -> tuple[tuple[str, int, int, int, int], ...]:
        try:
            return self._ceilings
        except AttributeError:
            ceilings = tuple(
                (
                    tier,
                    above_tokens,
                    max(prompt, cached_prompt, write, write_1h, audio_prompt),
                    max(output, reasoning, audio_output),
                    search,
                )
                for tier, sheets in self._wholes_known().items()
                for above_tokens, whole, _ in sheets
                for prompt, cached_prompt, output, write, write_1h, reasoning, audio_prompt, audio_output, search in (
                    whole,
                )
            )
            object.__setattr__(self, "_ceilings", ceilings)
            return ceilings


def _whole(sheet: Sheet) -> Whole:
    write = sheet.prompt if sheet.cache_write is None else sheet.cache_write
    write_1h = write if sheet.cache_write_1h is None else sheet.cache_write_1h
    reasoning = sheet.output if sheet.reasoning is None else sheet.reasoning
    audio_prompt = sheet.prompt if sheet.audio_prompt is None else sheet.audio_prompt
    audio_output = sheet.output if sheet.audio_output is None else sheet.audio_output
    return (
        _scaled(sheet.prompt),
        _scaled(sheet.cached_prompt),
        _scaled(sheet.output),
        _scaled(write),
        _scaled(write_1h),
        _scaled(reasoning),
        _scaled(audio_prompt),
        _scaled(audio_output),
        _scaled(sheet.thousand_searches or Decimal(0)) * _TOKENS_PER_SEARCH,
    )


def _scaled(price: Decimal) -> int:
    return int(EXACT.scaleb(price, SCALE_DIGITS))


def _lines(terms: Terms) -> Iterator[str]:
    """The price list as text, one way for one list."""
    if terms.is_plain:
        yield "|".join(f"{price.normalize():f}" for _, price in terms.sheet.prices())
        return
    for tier, above_tokens, sheet in terms.sheets():
        yield f"{tier}|{above_tokens}|" + "|".join(f"{name}={price.normalize():f}" for name, price in sheet.prices())


def _digits(price: Decimal) -> int:
    """Digits from the first that is not zero to the last behind the point; for whole numbers, to the point."""
    _, digits, exponent = price.normalize().as_tuple()
    assert isinstance(exponent, int), "a finite number has an exponent"
    return max(len(digits) + max(exponent, 0), -exponent)
