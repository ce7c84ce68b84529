"""What cannot be taken: bytes that are no HTTP, and requests for which there is no memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from app.bootstrap.protocol import GatewayProtocol
from app.bootstrap.serving import App
from app.providers.scripted import Script
from tests.api.surface import HELLO, KEY, Surface
from tests.bootstrap.test_exchange import asked, chunked, through_asgi
from tests.flows.house import a_house
from tests.served_line import Answered, ServedLine

NO_HTTP = b"\x16\x03\x01 this is no HTTP\r\n\r\n"
#: The second chunk says no length.
BROKEN_BODY = chunked(b"{").removesuffix(b"0\r\n\r\n") + b"no length\r\n"
WAYS = pytest.mark.parametrize("way", [lambda app: app, through_asgi], ids=["hot", "asgi"])


def told(answer: Answered) -> tuple[int, str, str]:
    """Status, type and message; the connection is at its end."""
    assert answer.headers["connection"] == "close"
    error = json.loads(answer.body)["error"]
    return answer.status, error["type"], error["message"]


@WAYS
@pytest.mark.parametrize("said", [NO_HTTP, BROKEN_BODY], ids=["no HTTP", "a broken body"])
async def test_what_is_no_request_is_answered_as_every_error_and_asks_nobody(
    way: Callable[[App], App], said: bytes
) -> None:
    house = a_house()
    line = ServedLine(way(Surface(house).app))
    line.send(said)
    (answer,) = line.answers()
    assert told(answer)[:2] == (400, "invalid_request_error")
    assert "no HTTP/1.1 request" in told(answer)[2]
    assert line.is_closing()
    await line.over()
    assert house.told.receipts == []


@WAYS
@pytest.mark.parametrize("many", [1, 2])
async def test_what_is_no_request_leaves_the_answers_under_way_whole_and_ends_the_connection(
    way: Callable[[App], App], many: int
) -> None:
    house = a_house({"home": [Script(words=("a",) * 5, between_s=0.01)] * many})
    line = ServedLine(way(Surface(house).app))
    line.send(asked({**HELLO, "stream": True}) * many)
    while not line.written:
        await asyncio.sleep(0.001)
    line.send(NO_HTTP)
    assert not line.is_closing()
    await line.over()
    assert line.is_closing()
    assert [(answer.status, answer.body[-14:]) for answer in line.answers()] == [(200, b"data: [DONE]\n\n")] * many


@WAYS
@pytest.mark.parametrize("many", [1, 2])
async def test_a_request_that_breaks_off_behind_others_is_told_so_after_them(
    way: Callable[[App], App], many: int
) -> None:
    house = a_house({"home": [Script(words=("a",) * 5, between_s=0.01)] * many})
    line = ServedLine(way(Surface(house).app))
    line.send(asked({**HELLO, "stream": True}) * many + BROKEN_BODY)
    answers = await line.until(many + 1)
    assert [(answer.status, answer.body[-14:]) for answer in answers[:many]] == [(200, b"data: [DONE]\n\n")] * many
    assert told(answers[many])[:2] == (400, "invalid_request_error")
    await line.over()
    assert line.is_closing()
    assert len(house.told.receipts) == many


@WAYS
async def test_what_fails_in_the_gateway_itself_is_said_to_be_its_fault_and_logged(
    way: Callable[[App], App], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def on_headers_complete(self: GatewayProtocol) -> None:
        raise LookupError("a mistake of ours")

    monkeypatch.setattr(GatewayProtocol, "on_headers_complete", on_headers_complete)
    line = ServedLine(way(Surface(a_house()).app))
    line.send(asked())
    (answer,) = line.answers()
    assert told(answer)[:2] == (500, "server_error")
    assert "mistake" not in answer.body.decode()
    assert "a mistake of ours" in caplog.text


async def test_whoever_is_told_so_while_it_still_sends_is_heard_out_for_a_moment_and_not_reset() -> None:
    line = ServedLine(Surface(a_house()).app, last_words_s=0.05)
    line.send(BROKEN_BODY)
    assert told(line.answers()[0])[0] == 400
    assert line.is_half_closed
    assert not line.is_closing()
    line.send(b"more of it")
    await line.over()
    async with asyncio.timeout(20):
        while not line.is_closing():
            await asyncio.sleep(0.01)


@WAYS
async def test_a_request_for_which_there_is_no_memory_is_not_its_callers_fault(
    way: Callable[[App], App], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def on_body(self: GatewayProtocol, body: bytes) -> None:
        raise MemoryError

    monkeypatch.setattr(GatewayProtocol, "on_body", on_body)
    house = a_house()
    line = ServedLine(way(Surface(house).app))
    line.send(asked())
    (answer,) = line.answers()
    assert told(answer) == (503, "server_error", "this gateway process has no memory left for the request: try again")
    assert answer.headers["retry-after"] == "1"
    assert "no memory is left" in caplog.text
    await line.over()
    assert house.told.receipts == []
    assert KEY not in caplog.text
