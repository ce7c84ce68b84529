"""The primary dies, and a standby takes its place: one that had every commit, and one that lacks the last of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from app.domain.pricing.rate_card import RateCard
from app.storage.migrate import migrate
from tests.books import said
from tests.fault_proxy import FaultProxy
from tests.gateway_process import GatewayProcess, write_policy
from tests.load import under_load
from tests.oracle import nothing_is_missing
from tests.postgres import OwnServer, own_server
from tests.standby import POLL_S, Standby, standby_of
from tests.upstream import ScriptedUpstream, stream, whole

PRICE = RateCard.of(prompt=Decimal(1), cached_prompt=Decimal("0.1"), output=Decimal(10))
BUDGETS = "budgets:\n  all-of-it: {usd: 50, every: month}\n"
#: Receipts that only the primary has when it dies.
LACKING = 30


@contextlib.asynccontextmanager
async def a_pair(
    tmp_path: Path, upstream: ScriptedUpstream, *, synchronous: bool
) -> AsyncIterator[tuple[OwnServer, Standby, FaultProxy, GatewayProcess]]:
    """A server with its standby, a door in front of them, and a gateway that knows the door alone."""
    upstream.always(lambda heard: stream(pause_s=0.02) if heard.json.get("stream") else whole(first_s=0.02))
    with own_server() as own:
        own.server.ensure_database("books")
        url = own.server.url("books")
        await migrate(url, now=datetime.now(UTC))
        async with standby_of(own, "books", synchronous=synchronous) as standby, FaultProxy(url) as door:
            data = tmp_path / "data"
            data.mkdir()
            policies = write_policy(tmp_path / "policies", targets={"home": upstream.url}, extra=BUDGETS)
            gateway = GatewayProcess(data=data, policies=policies, database_url=url)
            gateway.environment = {"DATABASE_URL": door.url("books")}
            try:
                yield own, standby, door, gateway
            finally:
                await asyncio.to_thread(gateway.stop)


async def test_a_standby_that_takes_over_has_every_receipt_that_was_booked_and_gets_the_rest(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with a_pair(tmp_path, upstream, synchronous=True) as (own, standby, door, gateway):
        await gateway.start()
        async with under_load(gateway) as load:
            await load.answered(100)
            own.kill()
            dead_at_s = time.monotonic()
            await standby.promote()
            door.leads_to(standby.url)
            gateway.database_url = standby.url
            led_at_s = time.monotonic()
            await load.answered(50, since_s=led_at_s)
        print(f"failed over in {led_at_s - dead_at_s:.2f} s: {load.statuses(since_s=dead_at_s)}")
        assert set(load.statuses()) <= {200, 503}
        assert load.statuses(since_s=dead_at_s)[200] > 50
        await nothing_is_missing(gateway, upstream.heard, price=PRICE)


async def booked(url: str) -> int:
    ((count,),) = await said(url, "select count(*) from receipt")
    return int(count)


async def test_what_a_late_standby_lacks_is_sent_to_it_from_the_spool(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with a_pair(tmp_path, upstream, synchronous=False) as (own, standby, door, gateway):
        await gateway.start()
        async with under_load(gateway) as load:
            await load.answered(50)
            await standby.falls_behind()
            async with asyncio.timeout(60):
                while (had := await booked(gateway.database_url)) < await booked(standby.url) + LACKING:
                    await asyncio.sleep(POLL_S)
            own.kill()
            await standby.promote()
            lacks = had - await booked(standby.url)
            door.leads_to(standby.url)
            gateway.database_url = standby.url
            await load.answered(50, since_s=time.monotonic())
        print(f"the standby lacked {lacks} receipts of {had}: {load.statuses()}")
        assert lacks >= LACKING
        assert set(load.statuses()) <= {200, 503}
        async with asyncio.timeout(60):
            while not any("another Postgres server leads" in str(line) for line in gateway.log_lines()):
                await asyncio.sleep(POLL_S)
        assert await asyncio.to_thread(gateway.stop) == 0
        await nothing_is_missing(gateway, upstream.heard, price=PRICE)
