"""Full targets are waited for in the gateway's own queue: fair between teams, left at once, and not for ever."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time

import aiohttp

from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.telemetry import names
from tests.gateway_process import BRIEF, GatewayProcess
from tests.journeys.conftest import Open
from tests.upstream import ScriptedUpstream, Until, stream, whole

ASK = {"model": "chat", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 20}
WAITS = "      - {name: all, use: [home], wait: true}"
WAITS_OR_GOES = "      - {name: all, use: [home, second], wait: true}"
SERVICE_S = 0.15
FLOOD = 20
#: The time that cancellation may take, with the slowness of a machine in full use.
SOON_S = 5.0


async def _ask(session: aiohttp.ClientSession, *, streamed: bool = False) -> tuple[int, str, bytes, float]:
    """Status, request id, body, and the seconds it took."""
    began_s = time.monotonic()
    async with session.post("/v1/chat/completions", json={**ASK, "stream": streamed}) as answer:
        body = await answer.read()
        return answer.status, answer.headers["x-request-id"], body, time.monotonic() - began_s


async def _waiting(gateway: GatewayProcess, count: int) -> None:
    """Until so many are in the gateway's queue."""
    line = f'{names.QUEUED.name}{{target="home"}} {count}\n'.encode()
    async with asyncio.timeout(20):
        while not any(line in text for text in await gateway.metrics()):
            await asyncio.sleep(0.02)


def _leaver(gateway: GatewayProcess) -> bytes:
    body = json.dumps(ASK).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


async def test_under_a_flood_another_teams_request_waits_for_one_answer_and_whoever_leaves_the_queue_has_sent_nothing(
    open_gateway: Open, upstream: ScriptedUpstream
) -> None:
    upstream.always(whole(first_s=SERVICE_S))
    gateway = await open_gateway(
        {"home": upstream.url},
        rules=WAITS,
        first_limits="{in_flight: 1}",
        extra="defaults: {timeouts: {queue_s: 60}}",
    )
    other_key = await gateway.make_key(name="other", team="legal")
    async with gateway.session() as flood, gateway.session(key=other_key) as single:
        async with asyncio.timeout(20):
            while (await _ask(single))[0] != 200:  # until the new key is known
                await asyncio.sleep(0.1)
        known = len(upstream.heard)
        goes_on = asyncio.Event()
        upstream.will([Until(event=goes_on), *whole()])
        tasks = [asyncio.create_task(_ask(flood)) for _ in range(FLOOD)]
        await _waiting(gateway, FLOOD - 1)
        # One who leaves the queue.
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(_leaver(gateway))
        await writer.drain()
        await _waiting(gateway, FLOOD)
        writer.close()
        await _waiting(gateway, FLOOD - 1)
        alone_in_it = asyncio.create_task(_ask(single))
        await _waiting(gateway, FLOOD)
        goes_on.set()
        _, single_id, _, took_s = await alone_in_it
        answers = await asyncio.gather(*tasks)
        assert {status for status, *_ in answers} == {200}
        last_s = max(seconds for *_, seconds in answers)
        print(f"alone among {FLOOD}: {took_s:.2f} s; the last of them: {last_s:.2f} s")
        # With nobody else, who may wait no longer is told when to come again.
        upstream.always(whole(first_s=60))
        full = asyncio.create_task(_ask(flood))
        await upstream.heard_one(known + FLOOD + 2)
        headers = {"x-breakeven-deadline-s": "0.5"}
        async with single.post("/v1/chat/completions", json=ASK, headers=headers) as answer:
            assert answer.status == 503
            assert 1 <= int(answer.headers["retry-after"]) <= 4
            assert (await answer.json())["error"]["code"] == "queue_timeout"
            refused_id = answer.headers["x-request-id"]
        full.cancel()
    receipts = await gateway.receipts(known + FLOOD + 4)
    assert len(receipts) == known + FLOOD + 4
    left = [receipt for receipt in receipts if receipt.outcome is Outcome.ABANDONED and not receipt.attempts]
    assert [(receipt.status, receipt.charge, receipt.flag_words) for receipt in left] == [(499, 0, {"waited"})]
    assert left[0].waited_s < SOON_S
    assert len(upstream.heard) == known + FLOOD + 2
    by_id = {receipt.request_id: receipt for receipt in receipts}
    alone = by_id[single_id]
    assert alone.waited_s > 0
    assert alone.overhead_s <= alone.duration_s - alone.waited_s + 0.001, "waiting is no overhead"
    # Who was sent between its coming and its turn: nobody, or one of the other team, whose turn it was.
    sent_us = [receipt.attempts[0].started_us for receipt in receipts if receipt.attempts]
    assert sum(alone.at_us < each_us < alone.attempts[0].started_us for each_us in sent_us) <= 1
    refused = by_id[refused_id]
    assert (refused.outcome, refused.attempts) == (Outcome.REFUSED, ())
    assert "no place came free within 0.5 s" in refused.remarks[0]
    (text,) = await gateway.metrics()
    assert f'{names.QUEUE_ENDED.name}{{target="home",result="left"}} 1'.encode() in text
    assert f'{names.QUEUE_ENDED.name}{{target="home",result="timeout"}} 1'.encode() in text
    assert f'{names.QUEUED.name}{{target="home"}} 0'.encode() in text
    assert any(line.get("waited_ms", 0) > 0 for line in gateway.log_lines() if line["event"] == "receipt")


async def test_who_waits_too_long_or_for_a_target_that_dies_goes_on_to_the_next_and_a_stop_serves_the_queue_to_its_end(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.will(whole(first_s=60))
    upstream.always(stream(first_s=60))
    second.always(lambda heard: stream() if heard.json["stream"] else whole())
    gateway = await open_gateway(
        {"home": upstream.url, "second": second.url},
        rules=WAITS_OR_GOES,
        first_limits="{in_flight: 1}",
        timeouts=BRIEF,
    )
    async with gateway.session() as session:
        full = asyncio.create_task(_ask(session))
        await upstream.heard_one()
        status, request_id, _, _ = await _ask(session)  # `queue_s` is what `first_token_s` is, 2 s
        assert status == 200
        late = await gateway.receipt(request_id)
        assert [attempt.target for attempt in late.attempts] == ["second"]
        assert 1.9 <= late.waited_s < 10.0
        full.cancel()
    async with gateway.session() as session:
        # The one in flight waits in vain for 2 s, and so finds out that the target hangs.
        tasks = [asyncio.create_task(_ask(session, streamed=True)) for _ in range(6)]
        answers = await asyncio.gather(*tasks)
        assert {status for status, *_ in answers} == {200}
    receipts = [receipt for receipt in await gateway.receipts(8) if receipt.facts.stream]
    assert [receipt.attempts[-1].target for receipt in receipts] == ["second"] * 6
    assert sorted(len(receipt.attempts) for receipt in receipts) == [1, 1, 1, 1, 1, 2]

    upstream.always(whole(first_s=SERVICE_S))
    async with gateway.session() as session:
        async with asyncio.timeout(30):
            while (found := await _served_by(gateway, session)).attempts[-1].target != "home":
                await asyncio.sleep(0.5)
        assert found.outcome is Outcome.COMPLETE
        goes_on = asyncio.Event()
        upstream.will([Until(event=goes_on), *whole()])
        tasks = [asyncio.create_task(_ask(session)) for _ in range(8)]
        await _waiting(gateway, 7)
        os.kill(gateway.pid, signal.SIGTERM)
        goes_on.set()
        answers = await asyncio.gather(*tasks)
    assert {status for status, *_ in answers} == {200}
    assert gateway.ended(within_s=60) == 0


async def _served_by(gateway: GatewayProcess, session: aiohttp.ClientSession) -> Receipt:
    _, request_id, _, _ = await _ask(session)
    return await gateway.receipt(request_id)
