"""From written prices and the catalogue to the cards of a target. Pure: the catalogue is a value that is passed in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Final

from app.documents.page import Path
from app.documents.policy import PROVIDER_URLS, WrittenTarget
from app.documents.rates import (
    WrittenLongPrompts,
    WrittenPriceChange,
    WrittenPrices,
    WrittenServiceTier,
    WrittenTargetRates,
    WrittenTokenPrices,
)
from app.domain.pricing.price_list import DatedCard
from app.domain.pricing.rate_card import RateCard
from app.domain.pricing.terms import ContextTier, ServiceTier, Sheet, Terms
from app.ports.prices import Catalogue, CatalogueModel

_PERCENT = Decimal(100)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceFault:
    """Why there are no cards; `below` is the place within the entry of `rates.targets`."""

    below: Path
    message: str
    mend: str


class NoCatalogue:
    """ports.prices.Catalogue where there is none: every price has to be written."""

    @property
    def version(self) -> str:
        """Says so."""
        return "no catalogue"

    def find(self, name: str) -> CatalogueModel | None:
        """Nothing."""
        return None

    def models(self) -> Iterator[CatalogueModel]:
        """None."""
        yield from ()


NO_CATALOGUE: Final[Catalogue] = NoCatalogue()


def price_list(
    target: WrittenTarget, rates: WrittenTargetRates | None, *, catalogue: Catalogue
) -> tuple[DatedCard, ...] | PriceFault:
    """The cards of a managed target, by their days; empty where nobody says what it costs.

    Without prices and a `catalogue` of its own, a target at its provider's own address takes the catalogue's prices
    of the provider's model.
    """
    try:
        return tuple(_cards(target, rates or WrittenTargetRates(), catalogue))
    except _Faulty as faulty:
        return faulty.fault


class _Faulty(Exception):
    def __init__(self, below: Path, message: str, mend: str) -> None:
        super().__init__(message)
        self.fault = PriceFault(below=below, message=message, mend=mend)


def _cards(target: WrittenTarget, rates: WrittenTargetRates, catalogue: Catalogue) -> Iterator[DatedCard]:
    begins = rates.valid_from
    blocks: list[tuple[Path, WrittenPrices, date | None]] = [((), rates, begins)]
    for place, change in enumerate(rates.changes):
        before = blocks[-1][2]
        if before is not None and change.valid_from <= before:
            raise _Faulty(
                ("changes", place, "valid_from"),
                f"{change.valid_from} does not come after {before}",
                "write the changes in the order of their days",
            )
        blocks.append((("changes", place), change, change.valid_from))
    ends = [begin for _, _, begin in blocks[1:]] + [rates.valid_to]
    last = blocks[-1][2]
    if rates.valid_to is not None and last is not None and rates.valid_to <= last:
        raise _Faulty(("valid_to",), f"{rates.valid_to} does not come after {last}", "give a later day, or remove it")
    for (below, block, begin), end in zip(blocks, ends, strict=True):
        for dated in _block(target, block, below=below, catalogue=catalogue):
            clipped = _clipped(dated, begin=begin, end=end)
            if clipped is not None:
                yield clipped


def _clipped(dated: DatedCard, *, begin: date | None, end: date | None) -> DatedCard | None:
    first = max((day for day in (dated.valid_from, begin) if day is not None), default=None)
    last = min((day for day in (dated.valid_to, end) if day is not None), default=None)
    if first is not None and last is not None and first >= last:
        return None
    return replace(dated, valid_from=first, valid_to=last)


def _block(target: WrittenTarget, block: WrittenPrices, *, below: Path, catalogue: Catalogue) -> Iterator[DatedCard]:
    factor = (_PERCENT - (block.discount_percent or 0)) / _PERCENT * (block.region_multiplier or 1)
    for dated in _before_discount(target, block, below=below, catalogue=catalogue):
        terms = dated.card.whole_list()
        if factor == 1:
            yield dated
            continue
        try:
            card = RateCard.under(terms.times(factor), origin=_origin(dated.card.origin, block))
        except ValueError as fault:
            at = (*below, "discount_percent" if block.discount_percent is not None else "region_multiplier")
            raise _Faulty(at, f"with it, {fault}", "write a factor with fewer digits") from fault
        yield replace(dated, card=card)


def _origin(origin: str, block: WrittenPrices) -> str:
    if block.discount_percent is not None:
        origin += f", less {block.discount_percent.normalize():f} %"
    if block.region_multiplier is not None:
        origin += f", times {block.region_multiplier.normalize():f}"
    return origin


def _before_discount(
    target: WrittenTarget, block: WrittenPrices, *, below: Path, catalogue: Catalogue
) -> Iterator[DatedCard]:
    if block.catalogue is not None:
        yield from _over(_catalogued(block.catalogue, below=(*below, "catalogue"), catalogue=catalogue), block, below)
    elif block.usd_per_million_tokens is not None:
        sheet = _sheet(block.usd_per_million_tokens, searches=block.usd_per_thousand_searches)
        yield DatedCard(card=_card(Terms(sheet=sheet), block, below=below, origin="policy"))
    elif isinstance(block, WrittenPriceChange):
        raise _Faulty(below, "it names no prices", "add usd_per_million_tokens, or a model of the catalogue")
    else:
        own = None if target.url is not None or target.provider not in PROVIDER_URLS else target.provider
        model = None if own is None else catalogue.find(f"{own}/{target.model}")
        if model is not None and model.cards:
            yield from _over(model.cards, block, below)


def _catalogued(name: str, *, below: Path, catalogue: Catalogue) -> tuple[DatedCard, ...]:
    model = catalogue.find(name)
    if model is None:
        message = f'the catalogue ({catalogue.version}) has no model "{name}"'
        raise _Faulty(below, message, "`breakeven price list` names them; or write the prices out")
    if not model.cards:
        raise _Faulty(below, f'the catalogue cannot price "{name}": {model.because}', "write the prices out")
    return model.cards


def _over(cards: tuple[DatedCard, ...], block: WrittenPrices, below: Path) -> Iterator[DatedCard]:
    """The catalogue's cards with what is written over them; what is not written stays."""
    has_own = block.usd_per_million_tokens or block.long_prompts or block.service_tiers
    if not has_own and block.usd_per_thousand_searches is None:
        yield from cards
        return
    for dated in cards:
        terms = dated.card.whole_list()
        searches = block.usd_per_thousand_searches
        searches = terms.sheet.thousand_searches if searches is None else searches
        sheet = replace(terms.sheet, thousand_searches=searches)
        if block.usd_per_million_tokens is not None:
            sheet = _sheet(block.usd_per_million_tokens, searches=searches)
        written = replace(terms, sheet=sheet)
        origin = f"{dated.card.origin}, policy"
        yield replace(dated, card=_card(written, block, below=below, origin=origin))


def _card(terms: Terms, block: WrittenPrices, *, below: Path, origin: str) -> RateCard:
    """The list with the tiers that the block writes."""
    searches = terms.sheet.thousand_searches
    long = _context_tiers(block.long_prompts, searches=searches, below=below) if block.long_prompts else None
    services = {tier.name: tier for tier in terms.service_tiers}
    for name, written in block.service_tiers.items():
        services[name] = _service_tier(name, written, searches=searches, below=(*below, "service_tiers", name))
    try:
        return RateCard.under(
            Terms.of(
                terms.sheet,
                context_tiers=terms.context_tiers if long is None else long,
                service_tiers=tuple(services.values()),
            ),
            origin=origin,
        )
    except ValueError as fault:
        raise _Faulty(below, str(fault), "mend the prices of this entry") from fault


def _service_tier(name: str, written: WrittenServiceTier, *, searches: Decimal | None, below: Path) -> ServiceTier:
    return ServiceTier(
        name=name,
        sheet=_sheet(written.usd_per_million_tokens, searches=searches),
        context_tiers=_context_tiers(written.long_prompts, searches=searches, below=below),
    )


def _context_tiers(
    written: list[WrittenLongPrompts], *, searches: Decimal | None, below: Path
) -> tuple[ContextTier, ...]:
    tiers = []
    for place, each in enumerate(written):
        if (each.over is None) == (each.at_least is None):
            at = (*below, "long_prompts", place)
            raise _Faulty(at, "it needs one threshold: `over` or `at_least`", "write over: 272000 for more than that")
        above_tokens = each.over if each.over is not None else (each.at_least or 1) - 1
        sheet = _sheet(each.usd_per_million_tokens, searches=searches)
        tiers.append(ContextTier(above_tokens=above_tokens, sheet=sheet))
    return tuple(tiers)


def _sheet(written: WrittenTokenPrices, *, searches: Decimal | None) -> Sheet:
    return Sheet(
        prompt=written.prompt,
        cached_prompt=written.cached_prompt,
        output=written.completion,
        cache_write=written.cache_write,
        cache_write_1h=written.cache_write_1h,
        reasoning=written.reasoning,
        audio_prompt=written.audio_prompt,
        audio_output=written.audio_completion,
        thousand_searches=searches,
    )
