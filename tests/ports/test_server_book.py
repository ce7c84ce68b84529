"""`app.storage.server_book` is what `app.ports.servers.ServerBook` says; what a promotion changes is a journey's."""

from __future__ import annotations

import re

import pytest

from app.ports import BooksAway
from app.ports.servers import ServerBook
from app.storage.engine import Database
from app.storage.server_book import PostgresServerBook
from tests.books import Reachable


async def test_a_server_has_a_system_and_a_timeline_whoever_asks(database: Database, books_url: str) -> None:
    book: ServerBook = PostgresServerBook(database)
    name = await book.server()
    assert re.fullmatch(r"\d{10,}/00000001", name)
    async with Database(books_url) as other:
        assert await PostgresServerBook(other).server() == name
    reachable = Reachable(books_url)
    await reachable.take_away()
    with pytest.raises(BooksAway):
        await PostgresServerBook(database).server()
    await reachable.bring_back()
    assert await PostgresServerBook(database).server() == name
