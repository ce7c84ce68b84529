"""The protocols of prices: the catalogue of list prices, and the book that remembers every card ever used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from app.domain.pricing.price_list import DatedCard
from app.domain.pricing.rate_card import RateCard


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueModel:
    """A model as the catalogue has it. `name` is `seller/model`, as policies refer to it."""

    name: str
    title: str
    context_tokens: int | None = None
    #: Oldest first; empty where no card can say what the model costs, and `because` says why.
    cards: tuple[DatedCard, ...] = ()
    because: str = ""
    #: What the seller bills besides, that no card carries: units by the name that the catalogue gives them.
    also_billed: tuple[str, ...] = ()


class Catalogue(Protocol):
    """List prices of sellers, read on first use and the same until the process ends."""

    @property
    def version(self) -> str:
        """What it is and how new, such as `genai-prices 0.2.3`."""
        ...

    def find(self, name: str) -> CatalogueModel | None:
        """The model of that name, or the one whose names in the seller's API include it."""
        ...

    def models(self) -> Iterator[CatalogueModel]:
        """All of them, by name."""
        ...


class PriceSource(StrEnum):
    """Who says so."""

    POLICY = "policy"
    MEASURED = "measured"
    CATALOGUE = "catalogue"


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRow:
    """A price as it was first seen. `name` is the target's, or of a catalogue's row `seller/model`."""

    name: str
    model: str
    source: PriceSource
    dated: DatedCard
    #: Unix seconds.
    first_seen_s: int


class PriceBook(Protocol):
    """Every card that was ever in force, by its digest. Rows are never changed. Raises BooksAway."""

    async def remember(self, rows: Sequence[PriceRow]) -> int:
        """Keep what is not kept yet; how many rows that were. A row is known by its name, source, digest and days."""
        ...

    async def find(self, digest: str) -> RateCard | None:
        """The card that rows of the ledger name; None: it was never remembered."""
        ...

    async def rows(self, *, source: PriceSource | None = None, name: str | None = None) -> Sequence[PriceRow]:
        """By name, the newest seen first within it; of one source or name where that is given."""
        ...
