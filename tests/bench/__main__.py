"""`make bench`: what a decision costs, and what a request and a streamed chunk cost the gateway, measured from outside,
beside nginx, and beside a relay out of the same libraries that does nothing else. `python -m tests.bench.deciding`
measures decisions alone.

CPU is the kernel's account of the gateway's process group (user + system), read before and after; the upstream is a
cheap local one in a process of its own. Policy, key, receipt, spool, fsync and shipping are on.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.bench.deciding import tell_decisions
from tests.bench.house import Gateway, Proxy, Upstream, bare_house, gateway_house, nginx_house
from tests.bench.load import Load, run_load

CHUNKS = 100
BARS = {"request": 200.0, "chunk": 25.0, "added_p50_ms": 1.0}


@dataclass(frozen=True, kw_only=True)
class Row:
    name: str
    request_us: float
    chunk_us: float
    p50_ms: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--streams", type=int, default=400)
    parser.add_argument("--memory", type=int, default=0, help="also watch memory over this many requests")
    parser.add_argument("--connections", type=int, default=16)
    args = parser.parse_args()
    slow = tell_decisions()
    with tempfile.TemporaryDirectory(prefix="breakeven-bench-") as scratch:
        return asyncio.run(_bench(Path(scratch), args)) or slow


async def _bench(scratch: Path, args: argparse.Namespace) -> int:
    rows: list[Row] = []
    with Upstream(scratch) as upstream:
        bare = await run_load(Load(port=upstream.port, key="none", requests=2_000, connections=1))
        with nginx_house(scratch, upstream) as nginx:
            if nginx is None:
                print("nginx is not installed: no line for it")
            else:
                rows.append(await _measure("nginx, plain proxy", nginx, args, bare_p50_ms=bare.p50_ms))
        with bare_house(scratch, upstream) as relay:
            rows.append(await _measure("the libraries alone", relay, args, bare_p50_ms=bare.p50_ms))
        async with gateway_house(scratch, upstream) as gateway:
            rows.append(await _measure("breakeven, ledger on", gateway, args, bare_p50_ms=bare.p50_ms))
            if args.memory:
                await _memory(gateway, args)
            asked = 1_000 + 2_000 + args.requests + args.streams + 10 * (args.memory // 10)
            print(f"receipts in Postgres: {await gateway.booked()} of {asked} requests")
    return _told(rows)


async def _measure(name: str, house: Gateway | Proxy, args: argparse.Namespace, *, bare_p50_ms: float) -> Row:
    whole = Load(port=house.port, key=house.key, requests=args.requests, connections=args.connections)
    await run_load(whole.of(requests=1_000))
    one = await run_load(whole.of(requests=2_000, connections=1))
    before = house.cpu_s()
    done = await run_load(whole)
    request_us = (house.cpu_s() - before) / done.answered * 1e6
    before = house.cpu_s()
    streamed = await run_load(whole.of(requests=args.streams, stream=True))
    stream_us = (house.cpu_s() - before) / streamed.answered * 1e6
    print(
        f"{name}: {done.answered} requests at {done.per_s:.0f}/s over {args.connections} connections, "
        f"{streamed.answered} streams of {CHUNKS} chunks at {streamed.per_s:.0f}/s"
    )
    return Row(
        name=name,
        request_us=request_us,
        chunk_us=max(0.0, stream_us - request_us) / CHUNKS,
        p50_ms=one.p50_ms - bare_p50_ms,
    )


async def _memory(gateway: Gateway, args: argparse.Namespace) -> None:
    load = Load(port=gateway.port, key=gateway.key, requests=args.memory // 10, connections=args.connections)
    sizes = []
    for _ in range(10):
        await run_load(load)
        sizes.append(gateway.rss_mib())
    print("memory of the gateway in MiB over", args.memory, "requests:", " ".join(f"{size:.0f}" for size in sizes))


def _told(rows: list[Row]) -> int:
    print(f"\n{'':24}{'CPU µs/request':>16}{'CPU µs/chunk':>16}{'added p50 ms':>16}")
    for row in rows:
        print(f"{row.name:24}{row.request_us:16.1f}{row.chunk_us:16.2f}{row.p50_ms:16.3f}")
    print(f"{'the bar':24}{BARS['request']:16.1f}{BARS['chunk']:16.2f}{BARS['added_p50_ms']:16.3f}")
    ours = rows[-1]
    missed = [
        name
        for name, value in (("request", ours.request_us), ("chunk", ours.chunk_us), ("added_p50_ms", ours.p50_ms))
        if value > BARS[name]
    ]
    print("every bar is met" if not missed else f"missed: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
