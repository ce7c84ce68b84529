"""The catalogue's prices of today written down, but for those that a person has to look at first."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from app.domain.pricing.doubts import Doubt, Place, disputed, much_changed, odd_prices
from app.domain.pricing.price_list import card_of_the_day
from app.domain.pricing.rate_card import RateCard
from app.ports import Clock
from app.ports.prices import Catalogue, CatalogueModel, PriceBook, PriceRow, PriceSource

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What a sync came to. Models with doubts were held back: of them, what was written down before stands."""

    models: int
    new_rows: int
    held_back: tuple[Doubt, ...] = ()


async def sync_catalogue(
    book: PriceBook, catalogue: Catalogue, *, clock: Clock, day: date, accepted: Collection[str] = ()
) -> Synced:
    """Write down every card of the catalogue. A model whose price changed by more than a fifth, or became nothing,
    against the newest that was written down, is held back unless it is `accepted` by name. Raises BooksAway."""
    models = await asyncio.to_thread(lambda: [model for model in catalogue.models() if model.cards])
    latest = await _latest(book, day)
    held = tuple(
        doubt
        for model in models
        if model.name not in accepted and model.name in latest
        for doubt in _changed(model, before=latest[model.name], day=day)
    )
    names = {doubt.name for doubt in held}
    now_s = clock.unix_us() // _MICROSECONDS
    rows = [row for model in models if model.name not in names for row in _rows(model, now_s=now_s)]
    return Synced(models=len(models), new_rows=await book.remember(rows), held_back=held)


def catalogue_doubts(
    catalogue: Catalogue,
    *,
    day: date,
    second: Mapping[str, Mapping[Place, Decimal]],
    second_name: str,
    names: Collection[str] = (),
) -> Iterator[Doubt]:
    """What is odd in the catalogue on that day, and what a second list disputes; of the models of these `names`, or
    of all that the second list has."""
    wanted = names or second
    for model in catalogue.models():
        card = card_of_the_day(model.cards, day)
        if card is None or model.name not in wanted:
            continue
        yield from odd_prices(model.name, card)
        yield from disputed(model.name, card, second=second.get(model.name, {}), second_name=second_name)


async def _latest(book: PriceBook, day: date) -> Mapping[str, RateCard]:
    """The price of that day by name, as the newest sync wrote it down."""
    found: dict[str, RateCard] = {}
    for row in await book.rows(source=PriceSource.CATALOGUE):
        if row.dated.is_in_force(day):
            found.setdefault(row.name, row.dated.card)
    return found


def _changed(model: CatalogueModel, *, before: RateCard, day: date) -> Iterator[Doubt]:
    card = card_of_the_day(model.cards, day)
    if card is not None and card.digest != before.digest:
        yield from much_changed(model.name, before=before, after=card)


def _rows(model: CatalogueModel, *, now_s: int) -> Iterator[PriceRow]:
    for dated in model.cards:
        yield PriceRow(
            name=model.name,
            model=model.name.partition("/")[2],
            source=PriceSource.CATALOGUE,
            dated=dated,
            first_seen_s=now_s,
        )
