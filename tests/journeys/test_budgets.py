"""Budgets that hold over four gateway processes on one port, some of which are killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter

import aiohttp
import asyncpg

from tests.gateway_process import GatewayProcess
from tests.journeys.conftest import Open
from tests.upstream import ScriptedUpstream, completion, whole

#: A cent, in nanodollars.
CENT = 10_000_000
ASK = {"model": "chat", "max_tokens": 40, "messages": [{"role": "user", "content": "hello"}]}
BUDGETS = "budgets:\n  all-of-it: {usd: 0.01, every: month}\n"


async def ask(gateway: GatewayProcess) -> tuple[int, bytes]:
    """The status and body; 0 when the connection broke, as its process was killed."""
    try:
        async with gateway.session() as session, session.post("/v1/chat/completions", json=ASK) as reply:
            return reply.status, await reply.read()
    except aiohttp.ClientError:
        return 0, b""


async def test_two_hundred_at_once_on_a_cent_spend_no_more_than_it_though_processes_are_killed(
    open_gateway: Open, upstream: ScriptedUpstream
) -> None:
    gateway = await open_gateway({"home": upstream.url}, workers=4, extra=BUDGETS)
    upstream.always(whole(completion(output=40), tokens=40, first_s=0.05))  # 25 of them cost more than the cent
    asking = [asyncio.create_task(ask(gateway)) for _ in range(200)]
    async with asyncio.timeout(60):
        # Who is killed before anybody was answered may hold all of the cent, and the others then have nothing to give.
        while not any(task.done() and task.result()[0] == 200 for task in asking):
            await asyncio.sleep(0.01)
    for pid in gateway.crew()[:2]:
        os.kill(pid, signal.SIGKILL)
    answers = await asyncio.gather(*asking)
    # One process may have taken most of the connections, and been killed: what is left of the cent is asked for again.
    answers += await asyncio.gather(*[ask(gateway) for _ in range(60)])
    counted = Counter(status for status, _ in answers)
    assert set(counted) <= {0, 200, 402}, counted
    assert counted[200] > 0, counted
    assert counted[402] > 0, counted
    refused = next(body for status, body in answers if status == 402)
    assert b"budget_exceeded" in refused
    assert b"all-of-it" in refused
    gateway.stop()
    await gateway.start()  # adopts what the killed ones left
    connection = await asyncpg.connect(gateway.database_url)
    try:
        async with asyncio.timeout(30):
            while await connection.fetchval("select count(*) from budget_lease where state <> 'closed'"):
                await asyncio.sleep(0.2)
        spent, overrun = await connection.fetchrow("select spent, overrun from budget_account")
        booked = await connection.fetchval("select coalesce(sum(charge), 0) from attempt")
    finally:
        await connection.close()
    assert spent == booked
    assert 0 < spent <= CENT
    assert overrun == 0
