"""app.worker.exchange: requests, replies, and callers who leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from app.worker.exchange import BODY_BYTES_MOST, CallerLeft, Exchange, Message
from app.worker.refusals import Refusal, busy


class Caller:
    """The other side of an exchange, as an ASGI server presents it."""

    def __init__(self, *messages: Message, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.sent: list[Message] = []
        self.gone = asyncio.Event()
        self._messages = list(messages)
        self.exchange = Exchange({"headers": headers or []}, self._receive, self._send)

    async def _receive(self) -> Message:
        if self._messages:
            return self._messages.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])


def part(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_may_come_in_parts() -> None:
    assert await Caller(part(b"a", more=True), part(b"b")).exchange.body() == b"ab"


async def test_a_body_over_the_limit_is_refused_before_it_is_all_there() -> None:
    half = b"x" * (BODY_BYTES_MOST // 2 + 1)
    with pytest.raises(Refusal) as refused:
        await Caller(part(half, more=True), part(half, more=True)).exchange.body()
    assert refused.value.status == 413


async def test_a_caller_who_leaves_in_the_middle_of_the_body_is_gone() -> None:
    caller = Caller(part(b"a", more=True))
    caller.gone.set()
    with pytest.raises(CallerLeft):
        await caller.exchange.body()


@pytest.mark.parametrize(
    ("given", "kept"), [(b"abc-1", True), (b"", False), (b"a b", False), (b"x" * 129, False), ("é".encode(), False)]
)
async def test_a_request_id_is_echoed_if_it_is_one(given: bytes, kept: bool) -> None:
    caller = Caller(headers=[(b"x-request-id", given)])
    await caller.exchange.reply({})
    assert (caller.headers[b"x-request-id"] == given) == kept
    assert len(caller.headers[b"x-request-id"]) > 0


async def test_work_goes_on_while_the_caller_is_here() -> None:
    caller = Caller()
    await caller.exchange.while_here(caller.exchange.reply({"a": 1}))
    assert json.loads(caller.body) == {"a": 1}
    assert caller.headers[b"content-type"] == b"application/json"


async def test_work_stops_when_the_caller_leaves() -> None:
    caller, stopped = Caller(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    asyncio.get_running_loop().call_soon(caller.gone.set)
    with pytest.raises(CallerLeft):
        await caller.exchange.while_here(work())
    assert stopped.is_set()


@pytest.mark.parametrize("fault", [busy(), ValueError("x")], ids=type)
async def test_what_the_work_raises_comes_out_as_it_is(fault: Exception) -> None:
    async def work() -> None:
        raise fault

    with pytest.raises(type(fault)):
        await Caller().exchange.while_here(work())


async def test_a_worker_that_stops_stops_the_work_too() -> None:
    """Cancelled from outside, it is neither a caller who left nor an answer."""
    caller, begun = Caller(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.sleep(60)

    task: asyncio.Task[None] = asyncio.get_running_loop().create_task(caller.exchange.while_here(work()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def refuse_before(exchange: Exchange) -> None:
    await exchange.refuse(busy())


async def refuse_in_stream(exchange: Exchange) -> None:
    await exchange.begin_stream()
    await exchange.send(b"data: 1\n\n")
    await exchange.refuse(busy())


@pytest.mark.parametrize(("act", "status"), [(refuse_before, 503), (refuse_in_stream, 200)])
async def test_a_refusal_is_a_status_or_the_last_event(act: Callable[[Exchange], Any], status: int) -> None:
    caller = Caller()
    await act(caller.exchange)
    assert caller.sent[0]["status"] == status
    if status == 503:
        assert json.loads(caller.body)["error"]["code"] == 503
    else:
        assert caller.headers[b"content-type"].startswith(b"text/event-stream")
        first, last, done = caller.body.strip().split(b"\n\n")
        assert (first, done) == (b"data: 1", b"data: [DONE]")
        assert json.loads(last.removeprefix(b"data: "))["error"]["type"] == "Service Unavailable"
    assert not caller.sent[-1].get("more_body", False)
