"""`app.storage.server_book` is what `app.ports.servers.ServerBook` says; what a promotion changes is a journey's."""

from __future__ import annotations

import asyncio
import re

import pytest

from app.ports import BooksAway
from app.ports.servers import ServerBook, ServerClock, ServerUnnamed
from app.storage.engine import Database
from app.storage.server_book import PostgresServerBook
from tests.books import Reachable, said
from tests.postgres import own_server


async def test_a_server_has_a_system_a_timeline_and_a_start_whoever_asks(database: Database, books_url: str) -> None:
    book: ServerBook = PostgresServerBook(database)
    name = await book.server()
    assert re.fullmatch(r"\d{10,}/00000001/\d{16}", name)
    async with Database(books_url) as other:
        assert await PostgresServerBook(other).server() == name
    reachable = Reachable(books_url)
    await reachable.take_away()
    with pytest.raises(BooksAway):
        await PostgresServerBook(database).server()
    await reachable.bring_back()
    assert await PostgresServerBook(database).server() == name


async def test_a_server_that_is_started_anew_has_another_name_of_the_same_system() -> None:
    with own_server() as own:
        async with Database(own.server.url("postgres")) as database:
            before = await PostgresServerBook(database).server()
        await asyncio.to_thread(own.server.stop)
        await asyncio.to_thread(own.server.start)
        async with Database(own.server.url("postgres")) as database:
            after = await PostgresServerBook(database).server()
    assert after != before
    assert after.rpartition("/")[0] == before.rpartition("/")[0]


async def test_a_server_that_does_not_tell_this_user_is_not_one_that_is_away(books_url: str) -> None:
    await said(books_url, "alter function pg_catalog.pg_control_system() rename to pg_control_system_of_old")
    async with Database(books_url) as database:
        with pytest.raises(ServerUnnamed, match="pg_control_system"):
            await PostgresServerBook(database).server()


async def test_a_server_tells_its_time_between_the_question_and_the_answer(database: Database, books_url: str) -> None:
    book: ServerClock = PostgresServerBook(database)
    asked_us = await book.now_us()
    (row,) = await said(books_url, "select (extract(epoch from clock_timestamp()) * 1000000)::bigint as now_us")
    assert asked_us <= row["now_us"] <= await book.now_us()
    reachable = Reachable(books_url)
    await reachable.take_away()
    with pytest.raises(BooksAway):
        await book.now_us()
