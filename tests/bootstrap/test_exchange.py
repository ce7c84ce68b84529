"""Hot routes without ASGI: whatever a caller's bytes are, they are answered as they are with ASGI between."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import weakref
from typing import Any

import pytest

from app.bootstrap.exchange import DirectExchange
from app.bootstrap.serving import App
from app.domain.errors import FaultKind
from app.domain.metering.measurement import Outcome
from app.domain.routing.policy import Timeouts
from app.providers.scripted import Script
from tests.api.surface import HELLO, KEY, Surface
from tests.flows.house import House, a_house
from tests.loop_clock import LoopClock
from tests.makers import a_policy, a_route
from tests.served_line import Answered, ServedLine

STREAMED = {**HELLO, "stream": True}
OURS_ALONE = {"x-request-id"}


def asked(body: Any = HELLO, *, headers: str = "", path: str = "/v1/chat/completions", version: str = "1.1") -> bytes:
    """A request as it goes over the line."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/{version}\r\nAuthorization: Bearer {KEY}\r\n{headers}Content-Length: {len(text)}\r\n\r\n"
    return head.encode() + text


def chunked(*parts: bytes) -> bytes:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer {KEY}\r\ntransfer-encoding: chunked\r\n\r\n"
    return head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))


def through_asgi(app: App) -> App:
    """The same application, of which the protocol knows nothing but that."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return wrapped


def scripted() -> House:
    return a_house({"home": [Script(words=("a", "b", "c"))]})


async def was_asked(house: House, count: int = 1) -> None:
    """The target has so many requests."""
    async with asyncio.timeout(20):
        while len(house.provider.calls) < count:
            await asyncio.sleep(0.001)


TEXT = json.dumps(HELLO).encode()

CONVERSATIONS = {
    "an answer": asked(),
    "a stream": asked(STREAMED),
    "two after one another": asked() + asked(STREAMED),
    "a completion": asked({"model": "chat", "prompt": "hi"}, path="/v1/completions"),
    "a body in chunks": chunked(TEXT[:5], TEXT[5:]),
    "a query": asked(path="/v1/chat/completions?a=b"),
    "an escaped path": asked(path="/v1/chat%2Fcompletions"),
    "the last one": asked(headers="Connection: close\r\n"),
    "an old protocol": asked(version="1.0"),
    "an old protocol, streamed": asked(STREAMED, version="1.0"),
    "whoever waits to be asked on": asked(headers="Expect: 100-continue\r\n"),
    "another method": b"GET /v1/chat/completions HTTP/1.1\r\n\r\n",
    "HEAD": b"HEAD /v1/chat/completions HTTP/1.1\r\n\r\n",
    "a cold one between": asked() + b"GET /livez HTTP/1.1\r\n\r\n" + asked(),
    "no JSON": asked(b"{"),
    "no key": asked().replace(KEY.encode(), b"nobody"),
    "no key, and then one": asked().replace(KEY.encode(), b"nobody") + asked(),
    "too large": asked(b"x" * 1001) + asked(),
    "too large in chunks": chunked(b"x" * 600, b"x" * 600),
    "no such model": asked({**HELLO, "model": "nobody"}),
    "no HTTP": b"\x16\x03\x01 this is no HTTP\r\n\r\n",
    "another protocol wanted": asked(headers="Connection: upgrade\r\nUpgrade: websocket\r\n"),
}


@pytest.mark.parametrize("pieces", [1, 2, 7])
@pytest.mark.parametrize("raw", CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
async def test_it_says_what_asgi_says(raw: bytes, pieces: int) -> None:
    direct = await _conversation(Surface(scripted()).app, raw, pieces=pieces)
    usual = await _conversation(through_asgi(Surface(scripted()).app), raw, pieces=pieces)
    assert direct == usual


async def _conversation(app: App, raw: bytes, *, pieces: int) -> Any:
    """Everything that can be seen of it from outside, but for what is different every time."""
    line = ServedLine(app)
    size = -(-len(raw) // pieces)
    for start in range(0, len(raw), size):
        line.send(raw[start : start + size])
        await asyncio.sleep(0)
    await line.over()
    answers = [(each.status, _compared(each), _compared_body(each), each.whole) for each in line.answers()]
    said_go_on = line.written.count(b"HTTP/1.1 100 Continue\r\n\r\n")
    seen = (answers, said_go_on, line.is_closing(), line.reads)
    line.hang_up()
    await asyncio.sleep(0)
    return seen


def _compared(answered: Answered) -> dict[str, str]:
    return {name: value for name, value in answered.headers.items() if name not in OURS_ALONE}


def _compared_body(answered: Answered) -> bytes:
    """A scripted target puts the attempt's id into what it says."""
    mine = answered.headers.get("x-request-id", "").encode()
    return answered.body.replace(mine, b"the id") if mine else answered.body


async def test_a_hot_route_is_asked_directly_and_answered_in_one_write() -> None:
    line = ServedLine(Surface(scripted()).app)
    line.send(asked())
    await line.until(1)
    assert _is_direct(line)
    assert len(line.writes) == 1
    line.send(b"GET /livez HTTP/1.1\r\n\r\n")
    await line.until(2)
    assert not _is_direct(line)


def _is_direct(line: ServedLine) -> bool:
    cycle: object = line.protocol.cycle
    return type(cycle) is DirectExchange


async def test_requests_that_come_together_are_answered_in_their_order() -> None:
    line = ServedLine(Surface(scripted()).app)
    line.send(asked(STREAMED) + asked() + asked({**HELLO, "model": "nobody"}) + asked(STREAMED))
    answers = await line.until(4)
    assert [each.status for each in answers] == [200, 200, 404, 200]
    assert answers[0].body.endswith(b"data: [DONE]\n\n")
    assert json.loads(answers[1].body)["choices"]


async def test_a_caller_who_leaves_is_noticed_and_nothing_is_written_to_it() -> None:
    house = a_house({"home": [Script(first_s=30)]})
    line = ServedLine(Surface(house).app)
    line.send(asked(STREAMED))
    await was_asked(house)
    line.hang_up()
    await line.over()
    assert line.written == b""
    assert house.provider.deeds[0].hung_up
    assert [receipt.outcome for receipt in house.told.receipts] == [Outcome.ABANDONED]


async def test_a_caller_who_leaves_in_the_middle_of_a_stream_is_noticed() -> None:
    house = a_house({"home": [Script(words=("a",) * 50, between_s=0.01)]})
    line = ServedLine(Surface(house).app)
    line.send(asked(STREAMED))
    while not line.written:
        await asyncio.sleep(0.005)
    line.hang_up()
    await line.over()
    assert not line.answers()[0].whole
    assert [receipt.outcome for receipt in house.told.receipts] == [Outcome.ABANDONED]


async def test_a_caller_who_leaves_in_the_middle_of_its_body_made_no_request() -> None:
    house = scripted()
    line = ServedLine(Surface(house).app)
    line.send(asked()[:-5])
    await asyncio.sleep(0.01)
    line.hang_up()
    await line.over()
    assert (line.written, house.told.receipts) == (b"", [])


async def test_a_large_body_is_read_to_its_end_and_reading_goes_on_while_it_is_answered() -> None:
    read = asyncio.Event()

    async def until_it_is_read(_: float) -> None:
        await read.wait()

    surface = Surface(a_house({"home": [Script()]}, sleep=until_it_is_read), body_limit_bytes=1 << 20)
    line = ServedLine(surface.app)
    said = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "x" * 300_000}]}).encode()
    raw = asked(said)
    for start in range(0, len(raw), 1 << 17):
        line.send(raw[start : start + (1 << 17)])
    assert not line.reads, "nobody has asked for the body yet, and it is over the mark"
    async with asyncio.timeout(20):
        while not line.reads:
            await asyncio.sleep(0.001)
    assert line.written == b""
    read.set()
    assert (await line.until(1))[0].status == 200


async def test_whoever_reads_slowly_holds_the_stream_back() -> None:
    house = a_house({"home": [Script(words=("a",) * 20, between_s=0.001)]})
    line = ServedLine(Surface(house).app)
    line.send(asked(STREAMED))
    while not line.written:
        await asyncio.sleep(0.001)
    line.protocol.pause_writing()
    await asyncio.sleep(0.01)
    before = len(line.written)
    await asyncio.sleep(0.05)
    assert len(line.written) == before
    line.protocol.resume_writing()
    answer = (await line.until(1))[0]
    assert answer.body.endswith(b"data: [DONE]\n\n")


async def test_whoever_reads_slowly_and_leaves_is_noticed() -> None:
    house = a_house({"home": [Script(words=("a",) * 20, between_s=0.001)]})
    line = ServedLine(Surface(house).app)
    line.send(asked(STREAMED))
    while not line.written:
        await asyncio.sleep(0.001)
    line.protocol.pause_writing()
    await asyncio.sleep(0.02)
    line.hang_up()
    await line.over()
    assert [receipt.outcome for receipt in house.told.receipts] == [Outcome.ABANDONED]


def _hurried(script: Script) -> House:
    """A house whose route has little time."""
    return a_house({"home": [script]}, policy=a_policy(route=a_route("home", timeouts=Timeouts(total_s=0.3))))


@pytest.mark.parametrize(
    "script",
    [Script(words=("a",) * 20, between_s=0.001), Script(words=("a",), fault=FaultKind.CUT, fault_after=1)],
    ids=["whole", "broken"],
)
@pytest.mark.parametrize("said", [STREAMED, HELLO], ids=["streamed", "at once"])
async def test_whoever_reads_no_more_does_not_hold_its_place_for_ever(script: Script, said: Any) -> None:
    surface = Surface(_hurried(script))
    line = ServedLine(surface.app)
    line.protocol.drain_within_s = 0.1
    line.protocol.pause_writing()
    line.send(asked(said))
    await line.over()
    assert (line.written, line.is_closing()) == (b"", True)
    assert (surface.admission.in_flight, surface.bugs) == (0, [])


async def test_whoever_reads_no_more_after_the_start_of_a_stream_is_left_when_the_time_of_the_route_is_over() -> None:
    surface = Surface(_hurried(Script(words=("a",) * 50, between_s=0.01)))
    line = ServedLine(surface.app)
    line.protocol.drain_within_s = 0.1
    line.send(asked(STREAMED))
    while not line.written:
        await asyncio.sleep(0.001)
    line.protocol.pause_writing()
    await line.over()
    assert not line.answers()[0].whole
    assert (line.is_closing(), surface.admission.in_flight) == (True, 0)


async def test_whoever_reads_on_in_time_gets_the_end() -> None:
    line = ServedLine(Surface(scripted()).app)
    line.protocol.pause_writing()
    line.send(asked())
    await asyncio.sleep(0.05)
    assert line.written == b""
    line.protocol.resume_writing()
    assert [each.status for each in await line.until(1)] == [200]
    assert not line.is_closing()


async def test_a_stop_lets_a_stream_end_and_then_closes_the_connection() -> None:
    house = a_house({"home": [Script(words=("a",) * 5, between_s=0.01)]})
    line = ServedLine(Surface(house).app)
    line.send(asked(STREAMED))
    while not line.written:
        await asyncio.sleep(0.001)
    line.protocol.shutdown()
    assert not line.is_closing()
    answer = (await line.until(1))[0]
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert line.is_closing()


async def test_a_stop_closes_a_connection_that_rests() -> None:
    line = ServedLine(Surface(scripted()).app)
    line.send(asked())
    await line.until(1)
    await line.over()
    line.protocol.shutdown()
    assert line.is_closing()


async def test_a_request_ended_from_outside_is_booked_and_its_caller_is_told(caplog: pytest.LogCaptureFixture) -> None:
    house = a_house({"home": [Script(first_s=30)]})
    line = ServedLine(Surface(house).app)
    line.send(asked())
    await was_asked(house)
    with caplog.at_level(logging.ERROR):
        for task in set(line.state.tasks):
            task.cancel()
        await line.over()
    answer = line.answers()[0]
    assert (answer.status, answer.headers["connection"], line.is_closing()) == (500, "close", True)
    assert [receipt.outcome for receipt in house.told.receipts] == [Outcome.INTERRUPTED]
    assert "ended before its answer was" in caplog.text


async def test_a_stream_ended_from_outside_is_not_ended_well() -> None:
    house = a_house({"home": [Script(words=("a",) * 50, between_s=0.01)]})
    line = ServedLine(Surface(house).app)
    line.send(asked(STREAMED))
    while not line.written:
        await asyncio.sleep(0.001)
    for task in set(line.state.tasks):
        task.cancel()
    await line.over()
    assert line.is_closing()
    assert not line.answers()[0].whole


async def test_a_stream_that_breaks_ends_with_an_error_and_the_connection_lives_on() -> None:
    house = a_house({"home": [Script(words=("a", "b"), fault=FaultKind.CUT, fault_after=1), Script()]})
    line = ServedLine(Surface(house).app)
    line.send(asked(STREAMED))
    answer = (await line.until(1))[0]
    assert b'"error"' in answer.body
    assert b"[DONE]" not in answer.body
    line.send(asked())
    assert (await line.until(2))[1].status == 200


async def test_a_connection_that_rests_is_closed_after_its_time_and_not_before() -> None:
    line, clock = ServedLine(Surface(scripted()).app, keep_alive_s=300), LoopClock()
    for count in range(1, 4):
        line.send(asked())
        await line.until(count)
        await line.over()
        await clock.pass_s(200)
    assert not line.is_closing(), "it never rested for so long"
    await clock.pass_s(101)
    assert line.is_closing()


#: A request, and what comes once it is answered: nothing that begins another.
NO_REQUEST = {
    "empty lines": (asked(), b"\r\n"),
    "the rest of a body": (asked(b"x" * 4000, path="/nowhere")[:-3900], b"x"),
}


@pytest.mark.parametrize(("said", "more"), NO_REQUEST.values(), ids=NO_REQUEST.keys())
async def test_a_connection_on_which_no_request_begins_is_closed_whatever_comes(said: bytes, more: bytes) -> None:
    line, clock = ServedLine(Surface(scripted()).app, keep_alive_s=300), LoopClock()
    line.send(said)
    await line.until(1)
    await line.over()
    assert not line.is_closing()
    for _ in range(4):
        line.send(more)
        await clock.pass_s(100)
    assert line.is_closing()


async def test_a_request_that_began_before_the_last_answer_is_no_rest() -> None:
    line = ServedLine(Surface(a_house({"home": [Script(first_s=0.05), Script(first_s=0.5)]})).app, keep_alive_s=0.1)
    line.send(asked() + asked()[:30])
    await line.until(1)
    line.send(asked()[30:])
    assert [each.status for each in await line.until(2)] == [200, 200]


async def test_whoever_is_refused_before_its_body_has_come_is_not_kept() -> None:
    surface = Surface(scripted(), requests_most=1)
    nobody, turned_away = ServedLine(surface.app), ServedLine(surface.app)
    nobody.send(asked().replace(KEY.encode(), b"nobody")[:-5])
    (answer,) = await nobody.until(1)
    assert (answer.status, answer.headers["connection"], nobody.is_closing()) == (401, "close", True)
    assert surface.admission.enter(at_s=0) is None
    turned_away.send(asked()[:-5])
    (answer,) = await turned_away.until(1)
    assert (answer.status, answer.headers["connection"], turned_away.is_closing()) == (503, "close", True)


async def test_whoever_is_refused_for_what_its_body_says_may_ask_again() -> None:
    line = ServedLine(Surface(scripted()).app)
    line.send(asked(b"{"))
    assert [each.status for each in await line.until(1)] == [400]
    line.send(asked())
    assert [each.status for each in await line.until(2)] == [400, 200]


async def test_a_connection_at_work_is_not_closed_however_long_that_takes() -> None:
    done, clock = asyncio.Event(), LoopClock()

    async def sleep(pause_s: float) -> None:
        await (done.wait() if pause_s else asyncio.sleep(0))

    house = a_house({"home": [Script(), Script(first_s=30)]}, sleep=sleep)
    line = ServedLine(Surface(house).app, keep_alive_s=100)
    line.send(asked())
    await line.until(1)
    line.send(asked())
    await was_asked(house, 2)
    await clock.pass_s(300)
    done.set()
    assert (await line.until(2))[1].status == 200


async def test_nothing_of_a_request_is_left_to_the_collector() -> None:
    line = ServedLine(Surface(scripted()).app)
    gc.collect()
    before = _exchanges()
    gc.disable()
    try:
        for count in (1, 2, 3):
            line.send(asked())
            await line.until(count)
            await line.over()
        assert _exchanges() - before == 1
        protocol = weakref.ref(line.protocol)
        line.hang_up()
        await asyncio.sleep(0)
        del line.protocol
        await asyncio.sleep(0)
        assert protocol() is None
    finally:
        gc.enable()


def _exchanges() -> int:
    return sum(type(each) is DirectExchange for each in gc.get_objects())
