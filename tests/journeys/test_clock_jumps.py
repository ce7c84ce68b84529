"""Clocks of real processes jump by hours and days while they serve: periods, expiries and order go by Postgres' clock.

The wall clock of a program is moved by a library that it preloads (`tests/clock_jump.c`). Timers of CPython and uvloop
do not see that, as nobody can set the kernel's monotonic clock either.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import aiohttp

from app.bootstrap.office import office
from app.domain.budget import Every, period
from app.domain.keys import read_key
from app.domain.ledger.receipt import Receipt
from app.domain.limits import RateLimits
from app.domain.metering.measurement import Outcome
from app.domain.pricing.rate_card import RateCard
from app.flows.keys import revoke_key
from app.storage.migrate import migrate
from tests.books import said
from tests.clock_jump import MovableClock, a_movable_clock, clock_library, movable_clock
from tests.gateway_process import POLL_S, GatewayProcess, write_policy
from tests.journeys.conftest import Open
from tests.load import under_load
from tests.oracle import EPOCH, nothing_is_missing
from tests.postgres import own_server
from tests.upstream import ScriptedUpstream, stream, whole

__all__ = ["clock_library", "movable_clock"]

PRICE = RateCard.of(prompt=Decimal(1), cached_prompt=Decimal("0.1"), output=Decimal(10))
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
JUMPS = (HOUR, -HOUR, DAY, -DAY)
ZONE = "Asia/Kathmandu"
ASK = {"model": "chat", "max_tokens": 40, "messages": [{"role": "user", "content": "hello"}]}
PER_MINUTE = 60
#: A bound for waiting that only ends a test that fails anyway; far under an hour.
GIVE_UP_S = 60.0
#: How far a clock that agrees may be off.
NEAR_S = 1.0
#: The month is over so long after the load began; the gateway needs up to 5 s to see that the books' clock jumped.
BEFORE_THE_END = timedelta(seconds=12)
#: A lease whose process is not heard of any more.
LAPSED = "a process that is gone"
_LAPSE = """
insert into budget_lease (account, begin_at, holder, granted, expires_at)
select account, begin_at, $1, 5, clock_timestamp() from budget_account
"""


def budgets(zone: str) -> str:
    both = "{of-the-day: {usd: 5, every: day}, of-the-month: {usd: 50, every: month}}"
    return f"timezone: {zone}\nbudgets: {both}\n"


@dataclass(slots=True)
class Seen:
    """What callers of one gateway were answered, and under which ids."""

    gateway: GatewayProcess
    request_ids: list[str] = field(default_factory=list)
    #: By key and what was said: "200", or the code of a refusal.
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    retry_after_s: list[int] = field(default_factory=list)

    async def ask(self, key: str) -> str:
        """One request on a connection of its own, so that the processes share them: "200", or the code it got."""
        async with (
            self.gateway.session(key=key) as session,
            session.post("/v1/chat/completions", json=ASK) as answer,
        ):
            body = await answer.json()
            told = "200" if answer.status == 200 else str(body["error"]["code"])
            self.request_ids.append(answer.headers["x-request-id"])
            self.counts[key, told] += 1
            if answer.status == 429:
                self.retry_after_s.append(int(answer.headers["retry-after"]))
            return told

    async def keep_asking(self, key: str) -> None:
        """For ever."""
        while True:
            await self.ask(key)
            await asyncio.sleep(POLL_S)

    @asynccontextmanager
    async def an_open_stream(self, key: str) -> AsyncIterator[None]:
        """It has begun before the block, and ends whole after it."""
        async with (
            self.gateway.session(key=key) as session,
            session.post("/v1/chat/completions", json={**ASK, "stream": True}) as answer,
        ):
            assert answer.status == 200
            self.request_ids.append(answer.headers["x-request-id"])
            await answer.content.readany()
            yield
            assert (await answer.read()).endswith(b"data: [DONE]\n\n")

    async def known_everywhere(self, key: str) -> None:
        """Every process has read the keys anew."""
        in_a_row = 0
        async with asyncio.timeout(GIVE_UP_S):
            while in_a_row < 8:
                in_a_row = in_a_row + 1 if await self.ask(key) == "200" else 0


async def until(reached: Callable[[], Awaitable[object]]) -> None:
    """Until it is so: what no clock may hold up for an hour."""
    async with asyncio.timeout(GIVE_UP_S):
        while not await reached():
            await asyncio.sleep(POLL_S)


def put_right(gateway: GatewayProcess) -> list[str]:
    """What its log says of clocks, without the figures."""
    lines = [str(line["event"]) for line in gateway.log_lines()]
    return [" ".join(line.split()[8:10]) for line in lines if line.startswith("the clock of this process was ")]


async def test_processes_whose_clocks_jump_go_on_by_the_time_of_their_books(
    open_gateway: Open, upstream: ScriptedUpstream, movable_clock: MovableClock
) -> None:
    upstream.always(lambda heard: stream([" w"] * 12, pause_s=0.05) if heard.json.get("stream") else whole())
    began_s = time.time()
    gateway = await open_gateway(
        {"home": upstream.url}, workers=2, environment=movable_clock.environment, extra=budgets(ZONE)
    )
    seen, lasting = Seen(gateway), await gateway.make_key(expires_at_s=began_s + 1800)
    limited_from_s = time.monotonic()
    limited = await gateway.make_key(limits=RateLimits(requests_per_minute=PER_MINUTE))
    await seen.known_everywhere(lasting)
    await seen.known_everywhere(limited)
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(seen.keep_asking(limited))
        for ahead in JUMPS:
            async with seen.an_open_stream(lasting), seen.an_open_stream(lasting):
                movable_clock.jump_to(ahead)
                assert {await seen.ask(lasting) for _ in range(6)} == {"200"}
            assert await said(gateway.database_url, "select from budget_lease where state = 'lost'") == []
        await _goes_on(seen)
        async with asyncio.timeout(GIVE_UP_S):
            while not seen.counts[limited, "rate_limit_exceeded"]:
                await asyncio.sleep(POLL_S)
        before = seen.counts[limited, "200"]
        async with asyncio.timeout(GIVE_UP_S):
            while seen.counts[limited, "200"] == before:
                await asyncio.sleep(POLL_S)
        most = PER_MINUTE + (time.monotonic() - limited_from_s) * PER_MINUTE / 60 + 1
        asking.cancel()
    assert PER_MINUTE <= seen.counts[limited, "200"] <= most
    assert seen.counts[limited, "rate_limit_exceeded"]
    assert max(seen.retry_after_s) <= 60
    assert put_right(gateway) == []
    await _is_killed_and_starts_with_a_wrong_clock(seen, upstream, movable_clock, lasting)
    await until(lambda: _tells(gateway, ["behind Postgres'"] * 2))
    receipts = await nothing_is_missing(gateway, upstream.heard, price=PRICE)
    assert len(set(seen.request_ids)) == len(seen.request_ids)
    assert Outcome.INTERRUPTED in {receipt.outcome for receipt in receipts}
    _are_of_their_moment(receipts, from_s=began_s, to_s=time.time())
    opened = await said(gateway.database_url, "select begin_at from budget_account")
    moments = [(EPOCH + timedelta(microseconds=receipt.at_us)).astimezone(ZoneInfo(ZONE)) for receipt in receipts]
    assert {row["begin_at"] for row in opened} == {
        period(every, at=moment)[0] for every in (Every.DAY, Every.MONTH) for moment in moments
    }


async def _goes_on(seen: Seen) -> None:
    """Polls, sweeps, shipping and reloads: none of them waits until it is that late again."""
    gateway = seen.gateway
    brief_until_s = time.time() + 4
    brief, gone = await gateway.make_key(expires_at_s=brief_until_s), await gateway.make_key()
    await until(lambda: _says(seen, gone, "200"))
    await until(lambda: _says(seen, brief, "200", "key_expired"))
    read = read_key(gone)
    assert read is not None
    async with office(gateway.settings) as rooms:
        await revoke_key(rooms.keys, read.key_id, clock=rooms.clock)
    policy = gateway.policies / "all.yaml"
    policy.write_text(policy.read_text().replace("name: all", "name: after-the-jumps"))
    await said(gateway.database_url, _LAPSE, LAPSED)
    await until(lambda: _says(seen, gone, "invalid_api_key"))
    await until(lambda: _serves_by(gateway, "after-the-jumps"))
    lost = "select from budget_lease where holder = $1 having count(*) = count(*) filter (where state = 'lost')"
    await until(lambda: said(gateway.database_url, lost, LAPSED))
    await until(lambda: _says(seen, brief, "key_expired"))
    assert time.time() >= brief_until_s - NEAR_S
    await said(gateway.database_url, "select budget_close($1)", LAPSED)
    shipped = "select from receipt where request_id = $1::text::uuid"
    assert await seen.ask(gateway.key) == "200"
    last = seen.request_ids[-1]
    await until(lambda: said(gateway.database_url, shipped, last))


async def _says(seen: Seen, key: str, *wanted: str) -> bool:
    return await seen.ask(key) in wanted


async def _tells(gateway: GatewayProcess, lines: list[str]) -> bool:
    """A thread of its own writes the log, a moment later."""
    return put_right(gateway) == lines


async def _serves_by(gateway: GatewayProcess, rule: str) -> bool:
    async with gateway.session() as session, session.post("/v1/chat/completions", json=ASK) as answer:
        return answer.headers["x-breakeven-rule"] == rule


async def _is_killed_and_starts_with_a_wrong_clock(
    seen: Seen, upstream: ScriptedUpstream, clock: MovableClock, key: str
) -> None:
    """Streams are open, the clock jumps by two days, and it is kill -9; at the start it is an hour behind."""
    upstream.always(stream([" w"] * 30, pause_s=0.1))
    with suppress(aiohttp.ClientError):
        async with AsyncExitStack() as streams:
            for _ in range(4):
                await streams.enter_async_context(seen.an_open_stream(key))
            clock.jump_to(DAY)
            await asyncio.sleep(0.2)
            seen.gateway.kill()
    clock.jump_to(-HOUR)
    upstream.always(whole())
    await seen.gateway.start()
    assert {await seen.ask(key) for _ in range(4)} == {"200"}


def _are_of_their_moment(receipts: Sequence[Receipt], *, from_s: float, to_s: float) -> None:
    """Whatever the process's clock read, they are of the time in which they were asked for."""
    for receipt in receipts:
        assert UUID(receipt.request_id).int >> 80 == receipt.at_us // 1000
        for at_us in (receipt.at_us, *(attempt.started_us for attempt in receipt.attempts)):
            assert from_s - NEAR_S <= at_us / 1e6 <= to_s + NEAR_S


async def test_a_month_that_ends_by_the_clock_of_the_books_ends_for_a_gateway_whose_own_is_wrong(
    tmp_path: Path, upstream: ScriptedUpstream, movable_clock: MovableClock, clock_library: Path
) -> None:
    upstream.always(lambda heard: stream([" w"] * 8, pause_s=0.1) if heard.json.get("stream") else whole(first_s=0.05))
    end = period(Every.MONTH, at=datetime.now(UTC))[1]
    with own_server(fsync="off") as own, a_movable_clock(clock_library) as of_gateway:
        movable_clock.jump_to(end - datetime.now(UTC) - timedelta(minutes=10))
        of_gateway.jump_to(end - datetime.now(UTC) + timedelta(minutes=50))
        await asyncio.to_thread(own.restart, movable_clock.environment)
        own.server.ensure_database("books")
        url = own.server.url("books")
        await migrate(url, now=end - timedelta(minutes=10))
        (tmp_path / "data").mkdir()
        gateway = GatewayProcess(
            data=tmp_path / "data",
            policies=write_policy(tmp_path / "policies", targets={"home": upstream.url}, extra=budgets("UTC")),
            database_url=url,
            environment=of_gateway.environment,
        )
        try:
            await gateway.start()
            movable_clock.jump_to(end - datetime.now(UTC) - BEFORE_THE_END)
            async with under_load(gateway, callers=6) as load:
                over = "select where clock_timestamp() > $1"
                await until(lambda: said(url, over, end + timedelta(seconds=1)))
            assert set(load.statuses()) == {200}
            receipts = await nothing_is_missing(gateway, upstream.heard, price=PRICE)
        finally:
            await asyncio.to_thread(gateway.stop)
        accounts = await said(url, "select begin_at, spent > 0 as is_spent from budget_account order by begin_at")
    # A slow first connection makes the first of them be measured again.
    assert [said_of for said_of, _ in groupby(put_right(gateway))] == ["ahead of", "behind Postgres'"]
    begins = [period(every, at=end - DAY)[0] for every in (Every.MONTH, Every.DAY)]
    assert [(row["begin_at"], row["is_spent"]) for row in accounts] == [(at, True) for at in (*begins, end, end)]
    end_us = (end - EPOCH) // timedelta(microseconds=1)
    crossing = [each for each in receipts if each.at_us < end_us <= each.at_us + each.duration_s * 1e6]
    print(f"{len(receipts)} requests, {len(crossing)} of them over the end of the month")
    assert crossing
