"""`app.storage.tables.prices`: what the tables hold and refuse."""

from __future__ import annotations

import asyncpg
import pytest

from app.ports.prices import PriceSource
from app.storage.engine import Database
from app.storage.price_book import PostgresPriceBook
from app.storage.tables.prices import PRICE, RATE_CARD, SOURCES
from tests.books import said
from tests.ports.price_book_suite import row


def test_the_sources_of_a_column_are_those_of_the_port() -> None:
    assert {word.strip("' ") for word in SOURCES.strip("()").split(",")} == {source.value for source in PriceSource}


@pytest.mark.parametrize("table", [RATE_CARD.name, PRICE.name])
@pytest.mark.parametrize("change", ["update {} set origin = 'other'", "delete from {}", "truncate {} cascade"])
async def test_a_price_that_was_in_force_stays_as_it_was(
    database: Database, books_url: str, table: str, change: str
) -> None:
    await PostgresPriceBook(database).remember([row()])
    with pytest.raises(asyncpg.PostgresError, match="is refused"):
        await said(books_url, change.format(table))
