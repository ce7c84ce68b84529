"""kill -9 of the gateway, of Postgres; a stop under load; several processes on one port."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from app.domain.metering.measurement import Outcome
from app.storage.migrate import migrate
from tests.gateway_process import GatewayProcess, write_policy
from tests.journeys.conftest import Open
from tests.postgres import own_server
from tests.upstream import ScriptedUpstream, stream, whole

ASK = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
WORDS = [f" w{n}" for n in range(40)]


async def _answered(session: aiohttp.ClientSession, *, stream: bool) -> str | None:
    """The request's id if its caller saw the whole answer."""
    try:
        async with session.post("/v1/chat/completions", json={**ASK, "stream": stream}) as answer:
            body = await answer.read()
            whole = body.endswith(b"data: [DONE]\n\n") if stream else answer.status == 200
            return answer.headers["x-request-id"] if whole else None
    except aiohttp.ClientError:
        return None


async def _load(gateway: GatewayProcess, *, callers: int, each: int, stream: bool) -> set[str]:
    """The ids of the requests that were answered whole."""

    async def one(place: int) -> list[str | None]:
        async with gateway.session() as session:
            return [await _answered(session, stream=stream) for _ in range(each)]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(place)) for place in range(callers)]
    return {request_id for task in tasks for request_id in task.result() if request_id is not None}


async def test_after_kill_9_under_load_every_answered_request_has_one_receipt(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.always(stream(words=WORDS, pause_s=0.005))
    async with asyncio.TaskGroup() as group:
        load = group.create_task(_load(gateway, callers=24, each=8, stream=True))
        await upstream.heard_one(60)
        gateway.kill()
    seen = load.result()
    assert seen
    dispatched = {heard.attempt_id.partition("/")[0] for heard in upstream.heard}
    await gateway.start()
    receipts = await gateway.receipts(len(dispatched))
    by_id = Counter(receipt.request_id for receipt in receipts)
    assert set(by_id.values()) == {1}
    assert seen <= dispatched <= set(by_id)
    outcome = {receipt.request_id: receipt.outcome for receipt in receipts}
    assert {outcome[request_id] for request_id in seen} == {Outcome.COMPLETE}
    interrupted = [receipt for receipt in receipts if receipt.outcome is Outcome.INTERRUPTED]
    assert interrupted
    bills = {heard.attempt_id: heard.bill for heard in upstream.heard}
    for receipt in interrupted:
        attempt = receipt.attempts[-1]
        bill = bills.get(attempt.attempt_id)  # None: the gateway died between its intent and the target
        assert attempt.flags
        assert attempt.usage.output >= (bill.output if bill else 0)
        assert receipt.charge > 0


async def test_a_gateway_stopped_in_good_order_finishes_what_runs(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.always(stream(words=WORDS, pause_s=0.02))
    async with asyncio.TaskGroup() as group:
        load = group.create_task(_load(gateway, callers=8, each=1, stream=True))
        await upstream.heard_one(8)
        status = await asyncio.to_thread(gateway.stop)
    assert status == 0
    assert len(load.result()) == 8
    receipts = await gateway.receipts(8)
    assert len(receipts) == 8


async def test_four_processes_on_one_port_keep_one_set_of_books(open_gateway: Open, upstream: ScriptedUpstream) -> None:
    gateway = await open_gateway({"home": upstream.url}, workers=4)
    upstream.always(whole())
    seen = await _load(gateway, callers=20, each=5, stream=False)
    receipts = await gateway.receipts(100)
    assert len(seen) == len(receipts) == 100
    assert seen == {receipt.request_id for receipt in receipts}


async def test_a_process_of_several_that_dies_is_replaced(open_gateway: Open, upstream: ScriptedUpstream) -> None:
    gateway = await open_gateway({"home": upstream.url}, workers=2)
    upstream.always(whole())
    first = gateway.crew()
    os.kill(first[0], signal.SIGKILL)
    async with asyncio.timeout(30):
        while len(now := gateway.crew()) < 2 or set(now) == set(first):
            await asyncio.sleep(0.1)
    seen = await _load(gateway, callers=4, each=5, stream=False)
    assert seen


async def test_requests_are_served_while_postgres_is_down_and_booked_when_it_is_back(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    with own_server() as own:
        own.server.ensure_database("books")
        url = own.server.url("books")
        await migrate(url, now=datetime.now(UTC))
        data = tmp_path / "data"
        data.mkdir()
        policies = write_policy(tmp_path / "policies", targets={"home": upstream.url})
        gateway = GatewayProcess(data=data, policies=policies, database_url=url)
        try:
            await gateway.start()
            upstream.always(whole())
            before = await _load(gateway, callers=4, each=5, stream=False)
            own.kill()
            down = await _load(gateway, callers=4, each=5, stream=False)
            assert len(before) == len(down) == 20
            async with gateway.session() as session:
                async with asyncio.timeout(20):
                    while True:
                        async with session.get("/readyz") as answer:
                            said = await answer.json()
                        if said["status"] == "degraded":
                            break
                        await asyncio.sleep(0.2)
            assert "postgres" in json.dumps(said)
            await asyncio.to_thread(own.server.start)
            receipts = await gateway.receipts(40, within_s=60)
            assert Counter(receipt.request_id for receipt in receipts) == Counter(before | down)
        finally:
            gateway.stop()
