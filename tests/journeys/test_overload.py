"""A gateway that is asked too much, too slowly, or in the middle of its own restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections import Counter

import aiohttp

from tests.gateway_process import GatewayProcess
from tests.journeys.conftest import Open
from tests.upstream import ScriptedUpstream, Until, stream, whole

#: In the suite; `SLOW_SOCKETS=500 OTHERS=1000` for the long run by hand.
SLOW_SOCKETS = int(os.environ.get("SLOW_SOCKETS", "100"))
OTHERS = int(os.environ.get("OTHERS", "20"))
ASK = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}


async def _ask(session: aiohttp.ClientSession, *, streamed: bool = False) -> tuple[int, bytes]:
    async with session.post("/v1/chat/completions", json={**ASK, "stream": streamed}) as answer:
        return answer.status, await answer.read()


async def test_more_than_its_most_is_turned_away_at_once_and_the_rest_is_answered(
    open_gateway: Open, upstream: ScriptedUpstream
) -> None:
    upstream.always(whole(first_s=1.0))
    gateway = await open_gateway({"home": upstream.url}, environment={"BREAKEVEN_REQUESTS_MOST": "20"})
    async with gateway.session() as session:
        answers = await asyncio.gather(*[_ask(session) for _ in range(100)])
        counted = Counter(status for status, _ in answers)
        assert set(counted) == {200, 503}
        assert counted[200] >= 20
        assert len(upstream.heard) == counted[200]
        refused = next(body for status, body in answers if status == 503)
        assert json.loads(refused)["error"]["code"] == "overloaded"
        assert (await _ask(session))[0] == 200


async def _took(session: aiohttp.ClientSession, count: int) -> str:
    """Some callers who ask one after the other: all are answered; how long that took each, as p50 and p99."""
    took_s: list[float] = []
    for _ in range(count):
        began_s = time.monotonic()
        assert (await _ask(session))[0] == 200
        took_s.append(time.monotonic() - began_s)
    took_s.sort()
    return f"p50 {1000 * took_s[count // 2]:.1f} ms, p99 {1000 * took_s[count * 99 // 100]:.1f} ms"


async def test_whoever_sends_heads_too_slowly_keeps_nobody_waiting(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.always(whole())
    async with gateway.session() as session:
        alone = await _took(session, OTHERS)
        slow = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(SLOW_SOCKETS)]
        for _, writer in slow:
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nx-slow: ")
        beside = await _took(session, OTHERS)
        print(f"others alone: {alone}; beside {SLOW_SOCKETS} slow heads: {beside}")
        async with asyncio.timeout(30):
            ends = await asyncio.gather(*[reader.read() for reader, _ in slow])
    assert all(end.startswith(b"HTTP/1.1 408 ") for end in ends)
    for _, writer in slow:
        writer.close()
    assert len(await gateway.receipts(2 * OTHERS)) == 2 * OTHERS, "slow heads are in no book"


async def test_streams_that_run_when_it_is_told_to_stop_end_well_and_readiness_says_so_at_once(
    open_gateway: Open, upstream: ScriptedUpstream
) -> None:
    gateway = await open_gateway({"home": upstream.url}, environment={"BREAKEVEN_LINGER_S": "6"})
    told = asyncio.Event()
    begin, *rest = stream(words=[f" w{n}" for n in range(30)])
    upstream.always([begin, *rest[: len(rest) // 2], Until(event=told), *rest[len(rest) // 2 :]])
    async with gateway.session() as session:
        running = [asyncio.create_task(_ask(session, streamed=True)) for _ in range(50)]
        await upstream.heard_one(50)
        os.kill(gateway.pid, signal.SIGTERM)
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get("/readyz") as ready:
                        if ready.status == 503:
                            assert "told to stop" in (await ready.json())["because"]["process"]
                            break
                await asyncio.sleep(0.02)
        told.set()
        answers = await asyncio.gather(*running)
    assert {status for status, _ in answers} == {200}
    assert all(body.endswith(b"data: [DONE]\n\n") for _, body in answers)


async def test_a_rolling_restart_of_three_processes_fails_no_request(
    open_gateway: Open, upstream: ScriptedUpstream
) -> None:
    upstream.always(whole(first_s=0.05))
    gateway = await open_gateway({"home": upstream.url}, workers=3)
    before = set(gateway.crew())
    over = asyncio.Event()
    seen: Counter[object] = Counter()

    async def caller() -> None:
        async with gateway.session() as session:
            while not over.is_set():
                try:
                    seen[(await _ask(session))[0]] += 1
                except aiohttp.ClientError as fault:
                    seen[repr(fault)] += 1

    callers = [asyncio.create_task(caller()) for _ in range(12)]
    for pid in before:
        os.kill(pid, signal.SIGTERM)
        give_up = time.monotonic() + 60
        while len(set(gateway.crew()) - {pid}) < 3 or pid in gateway.crew():
            assert time.monotonic() < give_up, "it was not replaced"
            await asyncio.sleep(0.1)
    over.set()
    await asyncio.gather(*callers)
    assert not before & set(gateway.crew())
    assert set(seen) == {200}, seen
    assert seen[200] > 100
