"""An exchange over ASGI: parts of a body, and whether the caller is still there, whatever the server offers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from app.api.exchange import DEPARTURE, AsgiExchange
from app.domain.errors import CallerLeft


class Server:
    """The other side of ASGI."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for message in messages:
            self.messages.put_nowait(message)
        self.watched: list[Callable[[], None] | None] = []

    def exchange(self, *, tells: bool = False) -> AsgiExchange:
        scope: dict[str, Any] = {"type": "http", "headers": [(b"a", b"b")]}
        if tells:
            scope["extensions"] = {DEPARTURE: self.watched.append}
        return AsgiExchange(scope, self.messages.get, self.send)

    async def send(self, message: Any) -> None:
        raise AssertionError("nothing is answered here")


async def test_a_body_comes_in_its_parts_and_says_when_it_is_over() -> None:
    server = Server(
        {"type": "http.request", "body": b"one", "more_body": True},
        {"type": "http.request", "more_body": True},
        {"type": "http.request", "body": b"two"},
    )
    exchange = server.exchange()
    assert exchange.headers == [(b"a", b"b")]
    assert [await exchange.part() for _ in range(3)] == [(b"one", True), (b"", True), (b"two", False)]


async def test_a_caller_who_leaves_before_its_body_is_whole_made_no_request() -> None:
    with pytest.raises(CallerLeft):
        await Server({"type": "http.disconnect"}).exchange().part()


async def test_a_server_that_tells_of_departures_is_asked_for_them_and_told_when_nobody_listens_any_more() -> None:
    server = Server()
    exchange = server.exchange(tells=True)
    exchange.listen()
    assert server.watched == [exchange.reply.caller_left]
    exchange.stop_listening()
    assert server.watched[1:] == [None]


async def test_where_the_server_tells_nothing_the_exchange_waits_for_the_hang_up_itself() -> None:
    server = Server()
    exchange = server.exchange()
    exchange.listen()
    await asyncio.sleep(0)
    assert not exchange.reply.left
    server.messages.put_nowait({"type": "http.disconnect"})
    await asyncio.sleep(0.01)
    assert exchange.reply.left


async def test_nobody_waits_for_the_hang_up_once_the_answer_is_over() -> None:
    server = Server()
    exchange = server.exchange()
    before = asyncio.all_tasks()
    exchange.listen()
    exchange.stop_listening()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
