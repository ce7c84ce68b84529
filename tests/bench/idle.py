"""`make bench-idle`: what a stream that says nothing costs the gateway in memory, and that all live and settle.

Callers, target and gateway are processes of their own, as each stream takes two descriptors of the gateway and one of
either side. Where one process may not have enough of them, the gateway gets two.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Final

import uvloop

from app.bootstrap import database_url, migrate
from app.settings import Settings
from tests.gateway_process import ROOT, GatewayProcess, write_policy
from tests.idle_streams import Callers, IdleTarget
from tests.process_facts import ProcessFacts

GOAL_BYTES: Final = 100_000
#: Descriptors of a process beside those of its streams.
OTHERS: Final = 300
#: Streams that are there before anything is counted.
WARM: Final = 200
PATIENT: Final = "{connect_s: 30, first_token_s: 600, idle_s: 3600, total_s: 3600}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-idle")
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--rest-s", type=float, default=20.0, help="how long they say nothing once all are there")
    parser.add_argument("--target", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    most = _descriptors()
    if args.target:
        uvloop.run(_target())
        return 0
    with tempfile.TemporaryDirectory(prefix="breakeven-bench-") as scratch:
        return uvloop.run(_bench(Path(scratch), streams=args.streams, rest_s=args.rest_s, descriptors=most))


def _descriptors() -> int:
    """As many as this process may have, for it and for its children."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most if most != resource.RLIM_INFINITY else 1_000_000


async def _bench(scratch: Path, *, streams: int, rest_s: float, descriptors: int) -> int:
    if streams + WARM + OTHERS > descriptors:
        print(f"{descriptors} descriptors are too few for {streams} callers: raise the hard limit, or ask for fewer")
        return 2
    workers = 1 if 2 * (streams + WARM) + OTHERS <= descriptors else 2
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench.idle", "--target"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as target:  # fmt: skip
        assert target.stdin is not None
        assert target.stdout is not None
        settings = Settings(data=scratch / "data")
        with database_url(settings) as url:
            await asyncio.to_thread(migrate, url)
            home = target.stdout.readline().strip()
            policies = write_policy(scratch / "policies", targets={"home": home}, timeouts=PATIENT)
            gateway = GatewayProcess(data=settings.data, policies=policies, database_url=url, workers=workers)
            gateway.environment = {"BREAKEVEN_REQUESTS_MOST": str(2 * streams + WARM)}
            await gateway.start()
            try:
                return await _measured(gateway, target.stdin, target.stdout, streams=streams, rest_s=rest_s)
            finally:
                gateway.stop()
                target.stdin.close()


async def _measured(gateway: GatewayProcess, orders: IO[str], told: IO[str], *, streams: int, rest_s: float) -> int:
    callers = Callers(port=gateway.port, key=gateway.key)
    processes = [ProcessFacts(pid) for pid in (gateway.crew() if gateway.workers > 1 else [gateway.pid])]
    await callers.come(WARM)
    await asyncio.sleep(2)
    before = sum(each.resident_bytes for each in processes)
    begun_s = time.monotonic()
    await callers.come(streams)
    came_s = time.monotonic() - begun_s
    cpu_s = sum(each.cpu_s for each in processes)
    await asyncio.sleep(rest_s)
    cpu_s = sum(each.cpu_s for each in processes) - cpu_s
    after = sum(each.resident_bytes for each in processes)
    await asyncio.to_thread(_say, orders, "waiting")
    waiting, alive = int(await asyncio.to_thread(told.readline)), callers.alive
    each = (after - before) / streams
    print(
        f"{streams} streams over {len(processes)} process(es) came in {came_s:.0f} s; after {rest_s:.0f} s of silence "
        f"{alive - WARM} are alive at their callers and {waiting - WARM} at the target: {each / 1000:.1f} kB a stream "
        f"({before / 2**20:.0f} MiB before, {after / 2**20:.0f} with them), {100 * cpu_s / rest_s:.1f} % of a core"
    )
    begun_s = time.monotonic()
    await asyncio.to_thread(_say, orders, "go on")
    whole = await callers.end()
    ended_s = time.monotonic() - begun_s
    booked = len(await gateway.receipts(streams + WARM, within_s=300))
    print(f"told to go on, {whole} of {streams + WARM} ended whole in {ended_s:.0f} s, and {booked} are in the books")
    are_well = alive == waiting == whole == booked == streams + WARM
    if not are_well or each > GOAL_BYTES:
        print(f"the goal is {GOAL_BYTES / 1000:.0f} kB a stream, all alive, all settled")
    return 0 if are_well and each <= GOAL_BYTES else 1


async def _target() -> None:
    """Told by lines what to do, until there are none."""
    async with IdleTarget() as target:
        print(target.url, flush=True)
        while order := await asyncio.to_thread(sys.stdin.readline):
            if order.strip() == "waiting":
                print(target.waiting, flush=True)
            else:
                await target.go_on()


def _say(orders: IO[str], order: str) -> None:
    orders.write(f"{order}\n")
    orders.flush()


if __name__ == "__main__":
    raise SystemExit(main())
