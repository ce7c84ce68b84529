"""The primary dies, and a standby that had every commit takes its place."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from app.domain.pricing.rate_card import RateCard
from app.storage.migrate import migrate
from tests.fault_proxy import FaultProxy
from tests.gateway_process import GatewayProcess, write_policy
from tests.load import under_load
from tests.oracle import nothing_is_missing
from tests.postgres import own_server
from tests.standby import standby_of
from tests.upstream import ScriptedUpstream, stream, whole

PRICE = RateCard.of(prompt=Decimal(1), cached_prompt=Decimal("0.1"), output=Decimal(10))
BUDGETS = "budgets:\n  all-of-it: {usd: 50, every: month}\n"


async def test_a_standby_that_takes_over_has_every_receipt_that_was_booked_and_gets_the_rest(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.always(lambda heard: stream(pause_s=0.02) if heard.json.get("stream") else whole(first_s=0.02))
    with own_server() as own:
        own.server.ensure_database("books")
        url = own.server.url("books")
        await migrate(url, now=datetime.now(UTC))
        async with standby_of(own, "books") as standby, FaultProxy(url) as door:
            data = tmp_path / "data"
            data.mkdir()
            policies = write_policy(tmp_path / "policies", targets={"home": upstream.url}, extra=BUDGETS)
            gateway = GatewayProcess(data=data, policies=policies, database_url=url)
            gateway.environment = {"DATABASE_URL": door.url("books")}
            try:
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
            finally:
                await asyncio.to_thread(gateway.stop)
