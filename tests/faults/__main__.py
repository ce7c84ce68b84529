"""`make faults [REQUESTS=10000] [SEED=1]`: four gateway processes under load while everything around them breaks.

Processes are killed, callers leave, the target cuts streams, Postgres is killed and frozen. At the end the target's own
log is joined with the books. Exit status 1 when anything is lost, double, wrong, estimated below what a gateway process
had read of its target, overspent or leaked, or verify finds something. What was made and still on its way to a process
when its caller left, or was made before the target knew, is told and is no fault (tests/journeys/README.md).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import aiohttp

from app.domain.pricing.rate_card import RateCard
from app.storage.embedded import status
from app.storage.migrate import migrate
from tests.books import said
from tests.gateway_process import GatewayProcess, write_policy
from tests.oracle import broken_ones, joined, proven, settled_books
from tests.postgres import OwnServer, own_server
from tests.socket_queues import SocketQueues
from tests.upstream import NO_USAGE, Answer, Finish, Heard, Reset, ScriptedUpstream, broken_stream, stream, whole

PRICE = RateCard.of(prompt=Decimal(1), cached_prompt=Decimal("0.1"), output=Decimal(10))
WORDS = [f" w{n}" for n in range(20)]
CALLERS = 32
PROCESSES = 4
#: Reached before the end, so that what is left is fought for while processes die.
BUDGETS = "budgets:\n  all-of-it: {{usd: {usd}, every: month}}\n"
USD_PER_REQUEST = 0.00016
#: So many refusals by the budget end the run too.
DENIED_MOST = 1_000
FROZEN_S = 5.0


class Storm:
    """One run. `counted` is what callers saw: a status, 0 for a broken connection, -1 for having left."""

    def __init__(self, *, requests: int, seed: int, upstream: ScriptedUpstream) -> None:
        self.chance = random.Random(seed)
        self._requests = requests
        self._upstream = upstream
        self.counted: Counter[int] = Counter()
        self.kills = self.outages = 0

    @property
    def is_over(self) -> bool:
        """So many requests have reached the target, or the budget is gone."""
        return len(self._upstream.heard) >= self._requests or self.counted[402] >= DENIED_MOST

    def answer(self, heard: Heard) -> Answer:
        if not heard.json.get("stream"):
            return whole(first_s=0.01)
        drawn = self.chance.random()
        if drawn < 0.04:
            return broken_stream(WORDS[:9], Reset())
        if drawn < 0.07:
            return broken_stream(WORDS[:9], Finish())
        if drawn < 0.10:
            return stream(WORDS, usage=NO_USAGE, pause_s=0.001)
        return stream(WORDS, pause_s=0.001)

    async def call(self, gateway: GatewayProcess) -> None:
        while not self.is_over:
            try:
                async with asyncio.timeout(60), gateway.session() as session:
                    status = await self._once(session)
            except (aiohttp.ClientError, TimeoutError):
                status = 0
            self.counted[status] += 1
            if status in {0, 503}:
                await asyncio.sleep(0.3)

    async def _once(self, session: aiohttp.ClientSession) -> int:
        asked = {
            "model": "chat",
            "stream": self.chance.random() < 0.8,
            "max_tokens": 40,
            "messages": [{"role": "user", "content": "hello"}],
        }
        leaves = asked["stream"] and self.chance.random() < 0.05
        async with session.post("/v1/chat/completions", json=asked) as reply:
            if leaves:
                await reply.content.readany()
                reply.close()
                return -1
            await reply.read()
            return reply.status

    async def kill_processes(self, gateway: GatewayProcess) -> None:
        while True:
            await asyncio.sleep(self.chance.uniform(2, 5))
            crew = gateway.crew()
            if len(crew) == PROCESSES:  # or, on a slow machine, nobody would ever live long enough to serve
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.chance.choice(crew), signal.SIGKILL)
                self.kills += 1

    async def break_postgres(self, own: OwnServer) -> None:
        while True:
            await asyncio.sleep(self.chance.uniform(6, 10))
            self.outages += 1
            if self.outages % 2:
                own.kill()
                await asyncio.sleep(2)
                await asyncio.to_thread(own.server.start)
            else:
                with own.frozen():
                    await asyncio.sleep(FROZEN_S)


async def run(*, requests: int, seed: int) -> int:
    """The whole story; the exit status."""
    with own_server() as own, SocketQueues() as queues, tempfile.TemporaryDirectory() as scratch:
        own.server.ensure_database("books")
        url = own.server.url("books")
        await migrate(url, now=datetime.now(UTC))
        data, budgets = Path(scratch) / "data", BUDGETS.format(usd=round(requests * USD_PER_REQUEST, 4))
        data.mkdir()
        async with ScriptedUpstream(queues=queues) as upstream:
            policies = write_policy(Path(scratch) / "policies", targets={"home": upstream.url}, extra=budgets)
            gateway = GatewayProcess(data=data, policies=policies, database_url=url, workers=PROCESSES)
            try:
                return await _through_the_storm(
                    gateway, own, upstream, Storm(requests=requests, seed=seed, upstream=upstream)
                )
            finally:
                gateway.stop()


async def _through_the_storm(gateway: GatewayProcess, own: OwnServer, upstream: ScriptedUpstream, storm: Storm) -> int:
    upstream.always(storm.answer)
    await gateway.start()
    began_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        calling = [group.create_task(storm.call(gateway)) for _ in range(CALLERS)]
        breaking = [group.create_task(storm.kill_processes(gateway)), group.create_task(storm.break_postgres(own))]
        await asyncio.wait(calling)
        for task in breaking:
            task.cancel()
    load_s = time.monotonic() - began_s
    if not status(own.base, state_root=own.state_root).pid:
        await asyncio.to_thread(own.server.start)
    gateway.kill()
    gateway.workers = 1
    began_s = time.monotonic()
    await gateway.start()
    await settled_books(gateway)
    caught_up_s = time.monotonic() - began_s
    receipts = await gateway.receipts(1)
    gateway.stop()
    found = joined(upstream.heard, receipts, price=PRICE)
    ((cap, spent, overrun),) = await said(gateway.database_url, "select cap, spent, overrun from budget_account")
    leases = await said(gateway.database_url, "select 1 from budget_lease where state <> 'closed'")
    sums_differ = spent != sum(receipt.charge for receipt in receipts)
    broken = broken_ones(await asyncio.to_thread(proven, gateway))
    print(f"callers saw {dict(storm.counted)} in {load_s:.0f} s; {storm.kills} kills, {storm.outages} outages")
    print(f"target heard {len(upstream.heard)}, booked {len(receipts)}, caught up in {caught_up_s:.1f} s")
    print(f"outcomes {dict(Counter(receipt.outcome.value for receipt in receipts))}")
    print(f"lost {len(found.lost)}, double {len(found.double)}, invented {len(found.invented)}")
    under = Counter(said_of.partition(" ")[0] for said_of in found.out_of_bounds)
    print(f"wrong {len(found.wrong)}, estimated under what was delivered or over the hold: {dict(under)}")
    for said_of in found.out_of_bounds[:: max(1, len(found.out_of_bounds) // 5)]:
        print(f"  {said_of}")
    late = found.on_its_way.values()
    print(f"on its way when its caller left: {sum(late)} tokens of {len(late)} answers, {max(late, default=0)} at most")
    print(f"cap {cap}, spent {spent}, overshoot {max(spent - cap, 0)}, overrun {overrun}, leaked leases {len(leases)}")
    print(f"verify: {broken or 'all hold'}")
    bad = bool(found) or broken
    return 1 if bad or spent > cap or overrun or leases or sums_differ else 0


def main() -> int:
    reader = argparse.ArgumentParser(prog="faults")
    reader.add_argument("--requests", type=int, default=10_000)
    reader.add_argument("--seed", type=int, default=1)
    args = reader.parse_args()
    return asyncio.run(run(requests=args.requests, seed=args.seed))


if __name__ == "__main__":
    sys.exit(main())
