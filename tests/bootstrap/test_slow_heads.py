"""Heads that do not come, or do not end; and connections of a process that is on its way out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from app.bootstrap.protocol import HEAD_MOST_BYTES, HEAD_WITHIN_S
from app.bootstrap.serving import App
from app.providers.scripted import Script
from tests.api.surface import HELLO, KEY, Surface
from tests.bootstrap.test_exchange import asked, through_asgi
from tests.flows.house import a_house
from tests.served_line import ServedLine

LATE_S = HEAD_WITHIN_S + 1


def _look(line: ServedLine, *, after_s: float) -> None:
    line.protocol.end_if_late(now_s=asyncio.get_running_loop().time() + after_s)


async def test_a_head_that_does_not_come_in_time_is_answered_so_and_the_connection_ends() -> None:
    line = ServedLine(Surface(a_house()).app)
    line.send(b"POST /v1/chat/completions HTTP/1.1\r\nauthor")
    _look(line, after_s=HEAD_WITHIN_S - 1)
    assert not line.is_closing()
    _look(line, after_s=LATE_S)
    (answer,) = line.answers()
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert "10 s" in json.loads(answer.body)["error"]["message"]
    assert line.is_closing()


async def test_whoever_connects_and_says_nothing_is_not_kept() -> None:
    line = ServedLine(Surface(a_house()).app)
    _look(line, after_s=LATE_S)
    assert line.is_closing()


async def test_between_two_requests_a_connection_may_rest() -> None:
    line = ServedLine(Surface(a_house()).app)
    line.send(asked())
    assert [answer.status for answer in await line.until(1)] == [200]
    _look(line, after_s=LATE_S)
    assert not line.is_closing()


async def test_a_second_head_that_does_not_come_ends_the_connection_too() -> None:
    line = ServedLine(Surface(a_house()).app)
    line.send(asked())
    await line.until(1)
    line.send(b"POST /v1/chat/compl")
    _look(line, after_s=LATE_S)
    assert [answer.status for answer in line.answers()] == [200, 408]
    assert line.is_closing()


async def test_a_body_that_is_slow_has_its_own_time() -> None:
    line = ServedLine(Surface(a_house()).app)
    whole = asked()
    line.send(whole[:-5])
    _look(line, after_s=LATE_S)
    assert not line.is_closing()
    line.send(whole[-5:])
    assert [answer.status for answer in await line.until(1)] == [200]


@pytest.mark.parametrize("came", ["{", ""])
@pytest.mark.parametrize("way", [lambda app: app, through_asgi], ids=["direct", "asgi"])
async def test_a_body_that_does_not_come_in_time_is_answered_so_and_the_connection_ends(
    way: Callable[[App], App], came: str
) -> None:
    surface = Surface(a_house(), body_within_s=0.05)
    line = ServedLine(way(surface.app))
    line.send(asked().partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + came.encode())
    (answer,) = await line.until(1)
    error = json.loads(answer.body)["error"]
    assert (answer.status, answer.headers["connection"], error["code"]) == (408, "close", "body_timeout")
    assert "send it faster" in error["message"]
    await line.over()
    assert (line.is_closing(), surface.bugs, surface.admission.in_flight) == (True, [], 0)


async def test_a_head_without_an_end_is_refused_before_it_fills_the_memory() -> None:
    line = ServedLine(Surface(a_house()).app)
    line.send(b"POST /v1/chat/completions HTTP/1.1\r\n")
    sent = 0
    while not line.is_closing() and sent < 10 * HEAD_MOST_BYTES:
        line.send(b"x-a: %b\r\n" % (b"a" * 1000))
        sent += 1000
    assert [answer.status for answer in line.answers()] == [431]
    assert sent < HEAD_MOST_BYTES + 2000


@pytest.mark.parametrize("many", [1, 2])
async def test_a_head_that_does_not_come_leaves_the_answers_under_way_whole_and_is_the_last(many: int) -> None:
    house = a_house({"home": [Script(words=("a",) * 5, between_s=0.01)] * many})
    line = ServedLine(Surface(house).app)
    line.send(asked({**HELLO, "stream": True}) * many + b"POST /v1/chat/compl")
    while not line.written:
        await asyncio.sleep(0.001)
    _look(line, after_s=LATE_S)
    assert not line.is_closing()
    line.send(b"etions HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}")
    await line.over()
    assert line.is_closing()
    assert [answer.status for answer in line.answers()] == [200] * many
    assert line.answers()[-1].body.endswith(b"data: [DONE]\n\n")


async def test_a_head_without_an_end_while_an_answer_is_under_way_leaves_that_answer_whole() -> None:
    house = a_house({"home": [Script(words=("a",) * 5, between_s=0.01)]})
    line = ServedLine(Surface(house).app)
    line.send(asked({**HELLO, "stream": True}) + b"POST /v1/chat/completions HTTP/1.1\r\n")
    while not line.written:
        await asyncio.sleep(0.001)
    for _ in range(2 * HEAD_MOST_BYTES // 1000):
        line.send(b"x-a: %b\r\n" % (b"a" * 1000))
    (answer,) = await line.until(1)
    assert answer.body.endswith(b"data: [DONE]\n\n")
    await line.over()
    assert line.is_closing()


async def test_a_body_that_comes_in_one_read_with_the_start_of_the_next_head_is_no_part_of_that_head() -> None:
    line = ServedLine(Surface(a_house(), body_limit_bytes=1 << 20).app)
    large = {**HELLO, "messages": [{"role": "user", "content": "x" * HEAD_MOST_BYTES}]}
    whole = asked(large)
    line.send(whole[:100])
    await asyncio.sleep(0)
    line.send(whole[100:] + asked()[:30])
    line.send(asked()[30:])
    assert [answer.status for answer in await line.until(2)] == [200, 200]


async def test_a_process_on_its_way_out_answers_and_ends_the_connection() -> None:
    surface = Surface(a_house())
    line = ServedLine(surface.app)
    line.send(asked())
    await line.until(1)
    surface.admission.stops()
    line.send(asked())
    first, last = await line.until(2)
    assert "connection" not in first.headers
    assert (last.status, last.headers["connection"]) == (200, "close")
    assert line.is_closing()


async def test_whoever_has_just_connected_when_the_process_stops_is_still_answered() -> None:
    surface = Surface(a_house())
    new, rested = ServedLine(surface.app), ServedLine(surface.app)
    rested.send(asked())
    await rested.until(1)
    surface.admission.stops()
    for line in (new, rested):
        line.protocol.shutdown()
    assert rested.is_closing()
    assert not new.is_closing()
    new.send(asked())
    assert [answer.status for answer in await new.until(1)] == [200]
    assert new.is_closing()


async def test_whoever_is_turned_away_is_told_when_to_come_back_and_not_all_at_once() -> None:
    surface = Surface(a_house(), requests_most=1)
    assert surface.admission.enter(at_s=0) is None
    body = json.dumps(HELLO).encode()
    waits = set()
    for _ in range(100):  # by chance
        status, headers, answer = await surface.ask("POST", "/v1/chat/completions", body, key=KEY)
        assert (status, json.loads(answer)["error"]["code"]) == (503, "overloaded")
        waits.add(int(headers["retry-after"]))
    assert waits == {1, 2, 3, 4}
    assert surface.admission.shed == 100
    surface.admission.leave()
    assert (await surface.ask("POST", "/v1/chat/completions", body))[0] == 200
    assert surface.admission.in_flight == 0


async def test_whoever_still_sends_after_its_last_answer_is_heard_out_for_a_moment_and_not_reset() -> None:
    surface = Surface(a_house(), body_limit_bytes=100)
    line = ServedLine(surface.app, last_words_s=0.2)
    line.send(asked(b"x" * 1000)[:-500])
    assert [answer.status for answer in await line.until(1)] == [413]
    assert line.is_half_closed
    assert not line.is_closing()
    line.send(b"x" * 500 + asked())
    async with asyncio.timeout(20):
        while not line.is_closing():
            await asyncio.sleep(0.01)
    assert len(line.answers()) == 1
