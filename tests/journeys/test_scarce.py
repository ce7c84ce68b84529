"""Whatever a process lives on runs short: descriptors, memory, disk, time to end, a caller's will to read.

One gateway goes through it all; where it dies it is started again. After each fault everything heard so far is joined
with the books.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest

from app.domain.errors import FaultKind
from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.pricing.rate_card import RateCard
from tests.gateway_process import POLL_S, GatewayProcess, write_policy
from tests.load import ASK, Load, asked, under_load
from tests.oracle import nothing_is_missing
from tests.process_facts import ProcessFacts
from tests.storage.small_disk import fill, small_disk
from tests.upstream import Hang, Heard, ScriptedUpstream, Send, chunk, part, stream, stream_head, whole

PRICE = RateCard.of(prompt=Decimal(1), cached_prompt=Decimal("0.1"), output=Decimal(10))
BUDGETS = "budgets:\n  all-of-it: {usd: 50, every: month}\n"
MIB = 1 << 20
WORDS = [f" w{number}" for number in range(40)]
DESCRIPTORS_MOST = 64
CALLERS = 4
#: A segment of the spool and connections to Postgres and the target come and go.
LEAKED_FROM = 6
#: Of one core, over some seconds: a loop that spins would take all of it.
SPINS_FROM = 0.6


@pytest.fixture
def upstream(looking: ScriptedUpstream) -> ScriptedUpstream:
    looking.always(lambda heard: stream(pause_s=0.01) if heard.json.get("stream") else whole())
    return looking


@pytest.fixture
async def gateway(tmp_path: Path, books_url: str, upstream: ScriptedUpstream) -> AsyncIterator[GatewayProcess]:
    """A gateway with a budget that is large enough for everybody."""
    data = tmp_path / "data"
    data.mkdir()
    policies = write_policy(tmp_path / "policies", targets={"home": upstream.url}, extra=BUDGETS)
    opened = GatewayProcess(data=data, policies=policies, database_url=books_url)
    await opened.start()
    yield opened
    opened.stop()


async def closes(gateway: GatewayProcess, upstream: ScriptedUpstream) -> list[Receipt]:
    return await nothing_is_missing(gateway, upstream.heard, price=PRICE)


# ── a caller who reads slowly ────────────────────────────────────────────────────────────────────────────────────────

#: What such a stream holds in all; far more than every buffer on its way.
FLOOD_EVENTS = 3000
FLOOD_EVENT_BYTES = 16 * 1024
#: The kernel's buffers of two connections on loopback, and what lies in the gateway between them.
ON_ITS_WAY_MOST_BYTES = 24 * MIB
GROWS_MOST_BYTES = 16 * MIB


def flood(heard: Heard) -> list[Send | Hang]:
    """Events of one token, padded to 16 KiB as some sellers pad them: each counts as one, however large it is."""
    event = part(chunk("w", obfuscation="x" * FLOOD_EVENT_BYTES), tokens=1)
    events = [event for _ in range(FLOOD_EVENTS)]
    return [stream_head(), *events, Hang()]


async def test_a_caller_who_hardly_reads_holds_its_target_back_and_pays_for_all_that_came(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    await _asked_once(gateway)
    upstream.will(flood)
    before = ProcessFacts(gateway.pid).resident_bytes
    with socket.socket() as caller:
        await _ask_for_a_flood(caller, gateway)
        heard = await upstream.heard_one(2)
        read = await _read_slowly(caller, heard)
        grown = ProcessFacts(gateway.pid).resident_bytes - before
    async with asyncio.timeout(10):
        await heard.left.wait()
    receipt = next(each for each in await closes(gateway, upstream) if each.outcome is Outcome.ABANDONED)
    print(
        f"the target sent {heard.sent_bytes} bytes, the caller read {read}, the gateway grew by {grown}; it had read "
        f"{heard.delivered_tokens} tokens, {receipt.attempts[0].usage.output} are booked"
    )
    assert heard.delivered_tokens <= receipt.attempts[0].usage.output <= heard.output_tokens
    assert read < heard.sent_bytes < read + ON_ITS_WAY_MOST_BYTES < FLOOD_EVENTS * FLOOD_EVENT_BYTES
    assert grown < GROWS_MOST_BYTES


async def test_a_caller_who_does_not_read_is_waited_for_no_longer_than_the_whole_request_may_take(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    hasty = "{connect_s: 2, first_token_s: 2, idle_s: 2, total_s: 2}"
    write_policy(gateway.policies, targets={"home": upstream.url}, extra=BUDGETS, timeouts=hasty)
    gateway.stop()
    await gateway.start()
    upstream.will(flood)
    with socket.socket() as caller:
        await _ask_for_a_flood(caller, gateway)
        heard = await upstream.heard_one()
        async with asyncio.timeout(10):
            await heard.left.wait()
        (receipt,) = await closes(gateway, upstream)  # and the caller is still there
    assert (receipt.outcome, receipt.attempts[0].fault) == (Outcome.BROKEN, FaultKind.TOTAL_TIMEOUT.value)


async def _ask_for_a_flood(caller: socket.socket, gateway: GatewayProcess) -> None:
    """Over a socket with a small buffer."""
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    caller.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(caller, ("127.0.0.1", gateway.port))
    body = json.dumps({**ASK, "stream": True, "max_tokens": FLOOD_EVENTS}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
    await loop.sock_sendall(caller, head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)


async def _read_slowly(caller: socket.socket, heard: Heard) -> int:
    """A little at a time, until the target has been held back for a while; how much."""
    loop, read, still = asyncio.get_running_loop(), 0, 0
    while still < 10:
        sent = heard.sent_bytes
        read += len(await loop.sock_recv(caller, 256))
        await asyncio.sleep(0.1)
        still = still + 1 if heard.sent_bytes == sent else 0
    return read


async def _asked_once(gateway: GatewayProcess) -> None:
    async with gateway.session() as session:
        assert (await asked(session, stream=True)).status == 200


# ── descriptors, memory, disk ────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def limited(gateway: GatewayProcess, limit: int, most: int) -> Iterator[None]:
    """A running gateway has no more of this than so much, for the length of a block."""
    before = resource.prlimit(gateway.pid, limit)
    resource.prlimit(gateway.pid, limit, (most, before[1]))
    try:
        yield
    finally:
        if gateway.lives:
            resource.prlimit(gateway.pid, limit, before)


async def test_a_gateway_without_descriptors_refuses_and_does_not_spin_and_serves_again(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    process = ProcessFacts(gateway.pid)
    await _asked_once(gateway)
    before = process.descriptors
    async with gateway.session() as inside:
        await _exhausted(gateway, process, inside)
    async with asyncio.timeout(20):
        while process.descriptors > before + LEAKED_FROM:  # what was closed at its other end goes in a moment
            await asyncio.sleep(POLL_S)
    await closes(gateway, upstream)


async def _exhausted(gateway: GatewayProcess, process: ProcessFacts, inside: aiohttp.ClientSession) -> None:
    """A crowd takes every descriptor and goes again; `inside` is a caller who was there before it."""
    assert await _status(inside, within_s=20) == 200
    with ExitStack() as crowd, limited(gateway, resource.RLIMIT_NOFILE, DESCRIPTORS_MOST):
        for _ in range(100):
            idle = crowd.enter_context(socket.socket())
            idle.setblocking(False)
            idle.connect_ex(("127.0.0.1", gateway.port))
        async with asyncio.timeout(20):
            while process.descriptors < DESCRIPTORS_MOST - 4:
                await asyncio.sleep(POLL_S)
        async with gateway.session() as session:
            turned_away = [await _status(session, within_s=0.5) for _ in range(3)]
        served = await _status(inside, within_s=20)
        busy_s, began_s = process.cpu_s, time.monotonic()
        await asyncio.sleep(2.0)
        busy = (process.cpu_s - busy_s) / (time.monotonic() - began_s)
        crowd.close()
        async with asyncio.timeout(20), gateway.session() as session:
            while await _status(session, within_s=5.0) != 200:
                await asyncio.sleep(POLL_S)
    print(f"without descriptors: {turned_away}, on a connection from before {served}, {busy:.0%} of a core")
    assert set(turned_away) <= {0, 503}
    assert served in {200, 502, 503}
    assert busy < SPINS_FROM


async def _status(session: aiohttp.ClientSession, *, within_s: float) -> int:
    """0: refused, broken off, or not let in by then."""
    try:
        async with asyncio.timeout(within_s):
            return (await asked(session, stream=False)).status
    except TimeoutError:
        return 0


async def test_a_gateway_that_runs_out_of_memory_loses_nothing_of_what_its_target_bills(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    await _asked_once(gateway)
    room = ProcessFacts(gateway.pid).address_space_bytes + 24 * MIB
    large = json.dumps({**ASK, "stream": True, "messages": [{"role": "user", "content": "x" * (6 * MIB)}]}).encode()
    with limited(gateway, resource.RLIMIT_AS, room):
        async with under_load(gateway, callers=4) as load:
            statuses = await asyncio.gather(*(_large(gateway, large) for _ in range(12)))
            await asyncio.sleep(0.5)
    print(f"out of memory: large {statuses}, others {load.statuses()}, lives on: {gateway.lives}")
    assert set(statuses) - {200}, "there was memory enough for all of them"
    assert set(statuses) <= {0, 200, 500, 503}, "whom there is no memory for has done nothing wrong"
    assert {500, 503} & set(statuses) or not gateway.lives, "and is told so"
    if not gateway.lives:
        await gateway.start()
    async with under_load(gateway, callers=2) as after:
        await after.answered(4)
    await closes(gateway, upstream)


async def _large(gateway: GatewayProcess, body: bytes) -> int:
    try:
        async with gateway.session() as session, session.post("/v1/chat/completions", data=BytesIO(body)) as reply:
            await reply.read()
            return reply.status
    except aiohttp.ClientError:
        return 0


async def test_a_gateway_whose_disk_is_full_asks_no_target_until_there_is_room_again(
    tmp_path: Path, books_url: str, upstream: ScriptedUpstream
) -> None:
    policies = write_policy(tmp_path / "policies", targets={"home": upstream.url}, extra=BUDGETS)
    with small_disk(tmp_path / "disk", size_kib=12 * 1024) as disk:
        gateway = GatewayProcess(data=disk, policies=policies, database_url=books_url)
        try:
            await gateway.start()
            async with under_load(gateway, callers=CALLERS) as load:
                await load.answered(10)
                filler = fill(disk)
                full_at_s = time.monotonic()
                await _all_refused(load, since_s=full_at_s)
                heard = len(upstream.heard)  # nobody waits for an answer from before
                ready, said = await _readiness(gateway)
                for _ in range(2):
                    await _all_refused(load, since_s=time.monotonic())
                assert len(upstream.heard) == heard
                assert (ready, "spool" in said) == (503, True)
                filler.unlink()
                await load.answered(8, since_s=time.monotonic())
            assert set(load.statuses()) <= {200, 503}
            await closes(gateway, upstream)
        finally:
            gateway.stop()


async def _all_refused(load: Load, *, since_s: float) -> None:
    """Wait until the last answer that each of the callers has is a refusal from after this moment."""
    async with asyncio.timeout(30):
        while True:
            last = {each.caller: each for each in load.seen}
            if [each.at_s >= since_s and each.status == 503 for each in last.values()] == [True] * CALLERS:
                return
            await asyncio.sleep(POLL_S)


async def _readiness(gateway: GatewayProcess) -> tuple[int, str]:
    async with gateway.session() as session, session.get("/readyz") as answer:
        return answer.status, await answer.text()


# ── time to end ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def _long_stream(gateway: GatewayProcess) -> bool:
    """Whether it came whole."""
    async with gateway.session() as session:
        return (await asked(session, stream=True)).status == 200


async def test_a_second_sigterm_cuts_nothing_short(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.always(stream(words=WORDS, pause_s=0.03))
    streams = [asyncio.create_task(_long_stream(gateway)) for _ in range(8)]
    await upstream.heard_one(8)
    for _ in range(2):
        os.kill(gateway.pid, signal.SIGTERM)
        await asyncio.sleep(0.2)
    assert await asyncio.to_thread(gateway.ended, within_s=30) == 0
    assert await asyncio.gather(*streams) == [True] * 8
    await gateway.start()
    receipts = await closes(gateway, upstream)
    assert {receipt.outcome for receipt in receipts} == {Outcome.COMPLETE}


async def test_kill_9_while_it_drains_loses_nothing(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.always([*stream(words=WORDS)[:20], Hang()])
    streams = [asyncio.create_task(_long_stream(gateway)) for _ in range(8)]
    await upstream.heard_one(8)
    os.kill(gateway.pid, signal.SIGTERM)
    await asyncio.sleep(0.3)
    gateway.kill()
    assert not any(await asyncio.gather(*streams))
    await gateway.start()
    receipts = await closes(gateway, upstream)
    assert {receipt.outcome for receipt in receipts} == {Outcome.INTERRUPTED}
    assert len(receipts) == 8
