from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

from app.domain.pricing.doubts import DoubtKind, prices_by_place
from app.domain.pricing.price_list import DatedCard
from app.domain.pricing.rate_card import RateCard
from app.flows.price_sync import catalogue_doubts, sync_catalogue
from app.ports.prices import CatalogueModel, PriceSource
from tests.archive import NoonClock
from tests.fakes.price_book import MemoryPriceBook

TODAY = date(2026, 11, 23)
CUT = date(2026, 7, 30)


def card(usd: str) -> RateCard:
    return RateCard.of(prompt=Decimal(usd), cached_prompt=Decimal(usd), output=Decimal(usd))


class Listed:
    """A catalogue with a price of each model, and one model without."""

    version = "a list"

    def __init__(self, **prices: str) -> None:
        self._prices = prices

    def models(self) -> Iterator[CatalogueModel]:
        for name, usd in sorted(self._prices.items()):
            dated = (DatedCard(card=card("10"), valid_to=CUT), DatedCard(card=card(usd), valid_from=CUT))
            yield CatalogueModel(name=f"s/{name}", title=name, cards=dated)
        yield CatalogueModel(name="s/whisper", title="Whisper", because="by the minute")

    def find(self, name: str) -> CatalogueModel | None:
        return next((model for model in self.models() if model.name == name), None)


async def synced(book: MemoryPriceBook, catalogue: Listed, *accepted: str) -> tuple[int, list[str]]:
    result = await sync_catalogue(book, catalogue, clock=NoonClock(), day=TODAY, accepted=accepted)
    return result.new_rows, [doubt.name for doubt in result.held_back]


async def test_the_first_sync_writes_every_card_down_and_the_second_nothing() -> None:
    book = MemoryPriceBook()
    assert await synced(book, Listed(a="5", b="6")) == (4, [])
    assert await synced(book, Listed(a="5", b="6")) == (0, [])
    rows = await book.rows(source=PriceSource.CATALOGUE, name="s/a")
    assert [(row.model, row.dated.card.prompt) for row in rows][-1] == ("a", Decimal(10))


async def test_a_price_times_a_thousand_is_held_back_until_somebody_looked_and_others_are_not() -> None:
    book = MemoryPriceBook()
    await synced(book, Listed(a="5", b="6"))
    new, held = await synced(book, Listed(a="5000", b="7"))
    assert (new, set(held)) == (1, {"s/a"})
    assert await book.find(card("5000").digest) is None
    assert (await synced(book, Listed(a="5000", b="7"), "s/a"))[1] == []
    assert await book.find(card("5000").digest) == card("5000")


async def test_a_price_that_became_nothing_is_held_back() -> None:
    book = MemoryPriceBook()
    await synced(book, Listed(a="5"))
    assert set((await synced(book, Listed(a="0")))[1]) == {"s/a"}


def test_what_a_second_list_disputes_is_told_of_the_price_of_the_day() -> None:
    catalogue = Listed(a="5", b="6")
    second = {"s/a": prices_by_place(card("5")), "s/b": prices_by_place(card("10")), "s/c": {}}
    doubts = [*catalogue_doubts(catalogue, day=TODAY, second=second, second_name="other")]
    assert {(doubt.name, doubt.kind) for doubt in doubts} == {("s/b", DoubtKind.DISPUTED)}
    before = [*catalogue_doubts(catalogue, day=date(2026, 7, 29), second=second, second_name="other")]
    assert {doubt.name for doubt in before} == {"s/a"}


def test_only_the_models_that_are_named_are_looked_at() -> None:
    catalogue = Listed(a="0", b="0")
    doubts = [*catalogue_doubts(catalogue, day=TODAY, second={}, second_name="other", names=["s/b", "s/whisper"])]
    assert {(doubt.name, doubt.kind) for doubt in doubts} == {("s/b", DoubtKind.ZERO)}
