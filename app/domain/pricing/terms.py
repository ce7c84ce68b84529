"""What a seller's price list says beyond three prices: more kinds of tokens, long prompts, service tiers, fees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from decimal import Decimal

from app.domain.money import EXACT

#: What answers call the service that costs the standard prices; an answer that names none is such a one.
STANDARD_TIERS = frozenset({"", "default", "standard"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Prices of one size of prompt in one service tier: USD per million tokens, exact decimals.

    None: no price of its own; those tokens cost what the kind costs that they are a part of.
    """

    prompt: Decimal
    cached_prompt: Decimal
    output: Decimal
    #: Tokens written to a prompt cache; None: as `prompt`.
    cache_write: Decimal | None = None
    #: Those of them kept for an hour; None: as `cache_write`.
    cache_write_1h: Decimal | None = None
    #: None: as `output`.
    reasoning: Decimal | None = None
    #: Audio tokens that were not read from a cache nor written to one; None: as `prompt`.
    audio_prompt: Decimal | None = None
    #: None: as `output`.
    audio_output: Decimal | None = None
    #: USD for a thousand of the seller's own web searches; None: not known, and a charge says so.
    thousand_searches: Decimal | None = None

    def prices(self) -> Iterator[tuple[str, Decimal]]:
        """Every price that is given, by its name, in the order above."""
        for each in fields(self):
            price = getattr(self, each.name)
            if price is not None:
                yield each.name, price

    def changed(self, change: Callable[[Decimal], Decimal]) -> Sheet:
        """The same with every price of tokens changed; fees by the call stay."""
        prices = {name: change(price) for name, price in self.prices() if name != "thousand_searches"}
        return replace(self, **prices)

    @property
    def is_plain(self) -> bool:
        """It gives the three prices and no other."""
        return sum(1 for _ in self.prices()) == 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextTier:
    """A request whose whole prompt has more than `above_tokens` costs these prices for all of its tokens.

    A list that says "from 200,000" is one above 199,999.
    """

    above_tokens: int
    sheet: Sheet


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTier:
    """Prices of answers that name this tier ("flex", "priority", "batch", …), written in small letters."""

    name: str
    sheet: Sheet
    context_tiers: tuple[ContextTier, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A whole price list. `context_tiers` rise by their threshold, `service_tiers` stand by their names."""

    sheet: Sheet
    context_tiers: tuple[ContextTier, ...] = ()
    service_tiers: tuple[ServiceTier, ...] = ()

    @classmethod
    def of(
        cls,
        sheet: Sheet,
        *,
        context_tiers: tuple[ContextTier, ...] = (),
        service_tiers: tuple[ServiceTier, ...] = (),
    ) -> Terms:
        """In order. Raises ValueError for two tiers of one threshold or name, or a name of the standard tier."""
        for tiers in (context_tiers, *(each.context_tiers for each in service_tiers)):
            thresholds = [tier.above_tokens for tier in tiers]
            if len({*thresholds}) != len(thresholds) or any(threshold < 0 for threshold in thresholds):
                raise ValueError(f"the thresholds {thresholds} are not all different and 0 or more: give each tier one")
        names = [tier.name for tier in service_tiers]
        if len({*names}) != len(names) or STANDARD_TIERS & {*names}:
            raise ValueError(f"the service tiers {names} are not all different, or name the standard one: rename one")
        ordered = (replace(each, context_tiers=_rising(each.context_tiers)) for each in service_tiers)
        return cls(
            sheet=sheet,
            context_tiers=_rising(context_tiers),
            service_tiers=tuple(sorted(ordered, key=lambda tier: tier.name)),
        )

    def sheets(self) -> Iterator[tuple[str, int, Sheet]]:
        """Every sheet with the name of its service tier ("" is the standard one) and the tokens a prompt has to
        exceed; -1: it may have any number."""
        yield "", -1, self.sheet
        yield from (("", tier.above_tokens, tier.sheet) for tier in self.context_tiers)
        for service in self.service_tiers:
            yield service.name, -1, service.sheet
            yield from ((service.name, tier.above_tokens, tier.sheet) for tier in service.context_tiers)

    def times(self, factor: Decimal) -> Terms:
        """The list with every price of tokens multiplied, exactly: a negotiated discount, or a region's surcharge."""

        def multiplied(tiers: tuple[ContextTier, ...]) -> tuple[ContextTier, ...]:
            return tuple(replace(tier, sheet=tier.sheet.changed(times_factor)) for tier in tiers)

        def times_factor(price: Decimal) -> Decimal:
            return EXACT.multiply(price, factor)

        return Terms(
            sheet=self.sheet.changed(times_factor),
            context_tiers=multiplied(self.context_tiers),
            service_tiers=tuple(
                replace(each, sheet=each.sheet.changed(times_factor), context_tiers=multiplied(each.context_tiers))
                for each in self.service_tiers
            ),
        )

    @property
    def is_plain(self) -> bool:
        """Three prices say it all."""
        return not self.context_tiers and not self.service_tiers and self.sheet.is_plain


def _rising(tiers: tuple[ContextTier, ...]) -> tuple[ContextTier, ...]:
    return tuple(sorted(tiers, key=lambda tier: tier.above_tokens))
