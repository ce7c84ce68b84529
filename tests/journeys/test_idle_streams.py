"""F-46 in small: streams that say nothing stay, cost little, and all end with a receipt. `make bench-idle` has many."""

from __future__ import annotations

import asyncio
from pathlib import Path

from app.domain.metering.measurement import Outcome
from tests.gateway_process import GatewayProcess, write_policy
from tests.idle_streams import Callers, IdleTarget
from tests.process_facts import ProcessFacts

STREAMS = 200
#: What F-46 aims at. A stream that rests takes about a quarter of it.
MOST_BYTES = 100_000


async def test_streams_that_say_nothing_stay_and_all_settle(tmp_path: Path, books_url: str) -> None:
    async with IdleTarget() as target:
        data = tmp_path / "data"
        data.mkdir()
        patient = "{connect_s: 10, first_token_s: 60, idle_s: 600, total_s: 600}"
        policies = write_policy(tmp_path / "policies", targets={"home": target.url}, timeouts=patient)
        gateway = GatewayProcess(data=data, policies=policies, database_url=books_url)
        await gateway.start()
        try:
            callers, process = Callers(port=gateway.port, key=gateway.key), ProcessFacts(gateway.pid)
            await callers.come(STREAMS // 4)
            before = process.resident_bytes
            await callers.come(STREAMS)
            await asyncio.sleep(1.0)
            each = (process.resident_bytes - before) / STREAMS
            print(f"{each / 1000:.0f} kB a stream")
            assert (callers.alive, target.waiting) == (len(callers.all), len(callers.all))
            assert each < MOST_BYTES
            await target.go_on()
            assert await callers.end() == len(callers.all)
            receipts = await gateway.receipts(len(callers.all))
            assert [receipt.outcome for receipt in receipts] == [Outcome.COMPLETE] * len(callers.all)
            assert all(receipt.charge > 0 for receipt in receipts)
        finally:
            gateway.stop()
