"""What the story of one request costs the event loop's thread: our code alone, between two sockets that are not there.

`python -m tests.bench.story` sends requests through the surface under its own server, the flows, a spool on the disk
(durability `os`, so that no thread syncs), metrics, log lines and the pool of connections; only the transports are
lists. Of many short rounds the quietest counts, so that a busy machine does not. What is missing is what the kernel
does: two sockets, the sync and its thread, and shipping; `make bench` measures those.

`--against TREE` measures another checkout too, turn by turn in processes of its own, and says what differs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from time import thread_time_ns
from typing import Any, Final, cast

import uvicorn
import uvloop
from uvicorn.server import ServerState

from app.api.hot import HotRoutes
from app.api.problems import status_of
from app.bootstrap.protocol import GatewayProtocol
from app.bootstrap.serving import GC_THRESHOLDS
from app.documents.compile import compile_policy
from app.domain.caller import Caller
from app.domain.keys import PEPPER_BYTES, Pepper, Peppers, key_id_of, write_key
from app.domain.routing.policy import Policy
from app.flows.gateway import Gateway
from app.flows.hold import Treasury
from app.flows.limits import LimitGate
from app.live.admission import Admission
from app.live.fleet import Fleet
from app.live.keys import KnownKeys
from app.live.policy_slot import PolicySlot
from app.live.recent import RecentReceipts
from app.live.wallet import Wallet
from app.ports import KeyRecord
from app.providers.credentials import NamedCredentials
from app.providers.http import Place, PooledClient
from app.providers.http_connection import Connection
from app.providers.openai_native import OpenAiProvider
from app.storage.spool import Spool
from app.system import RandomIds, SystemClock
from app.telemetry.logs import ReceiptLog
from app.telemetry.metrics import Gauges, PrometheusReadings
from app.telemetry.readings import AllReadings
from app.telemetry.sink import LineSink
from tests.bench.house import POLICY
from tests.bench.load import PROMPT
from tests.bench.upstream import WHOLE

ROUNDS: Final = 150
REQUESTS_A_ROUND: Final = 40
#: Turns of each checkout when two are compared.
TURNS: Final = 6

KEY_ID: Final = key_id_of(bytes(5))
KEY: Final = write_key(KEY_ID, bytes(32))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.story")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--against", type=Path, help="another checkout, measured in turn with this one")
    args = parser.parse_args()
    if args.against is not None:
        return _compare(args.against.resolve(), rounds=args.rounds)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(f"one request: {runner.run(time_story(rounds=args.rounds)):.1f} µs of the loop's thread")
    return 0


async def time_story(*, rounds: int) -> float:
    """µs of CPU of one request in the quietest round."""
    with tempfile.TemporaryDirectory(prefix="breakeven-story-") as scratch:
        async with _connected(Path(scratch)) as caller:
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            took_ns = [await caller.round() for _ in range(rounds)]
    return min(took_ns) / REQUESTS_A_ROUND / 1000


class CallersEnd:
    """The transport of one connection to the gateway, and who asks on it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        said = {"model": "chat", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 128}
        body = json.dumps(said, separators=(",", ":")).encode()
        self._request = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer %b\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % (KEY.encode(), len(body))
        ) + body
        self.protocol: GatewayProtocol | None = None
        self._left = 0
        self._over = self._loop.create_future()

    async def round(self) -> int:
        """Nanoseconds of this thread for a round of requests, one after the other."""
        self._left = REQUESTS_A_ROUND
        self._over = self._loop.create_future()
        begun = thread_time_ns()
        self._ask()
        await self._over
        return thread_time_ns() - begun

    def write(self, raw: bytes) -> None:
        assert raw.startswith(b"HTTP/1.1 200 OK\r\n"), raw
        self._left -= 1
        if self._left:
            self._loop.call_soon(self._ask)
        else:
            self._over.set_result(None)

    def _ask(self) -> None:
        assert self.protocol is not None
        self.protocol.data_received(self._request)

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("127.0.0.1", 40000) if name in {"peername", "sockname"} else default

    def pause_reading(self) -> None:
        """Nothing more comes before the answer."""

    def resume_reading(self) -> None:
        """As above."""


class TargetsEnd:
    """The transport of one connection to the target, which answers at once."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.protocol: Connection | None = None

    def write(self, raw: bytes) -> None:
        assert self.protocol is not None
        self._loop.call_soon(self.protocol.data_received, WHOLE)

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        """It was never open."""


class OneTarget(PooledClient):
    """The pool, but that new connections lead to a `TargetsEnd`."""

    async def _connected(self, place: Place, *, connect_s: float) -> Connection:
        loop = asyncio.get_running_loop()
        connection = Connection(loop=loop, at_rest=lambda rested: self._rested(place, rested), gone=self._gone)
        transport = TargetsEnd()
        transport.protocol = connection
        connection.connection_made(cast(asyncio.Transport, transport))
        return connection


@contextlib.asynccontextmanager
async def _connected(scratch: Path) -> AsyncIterator[CallersEnd]:
    """A connection to a gateway that has everything but Postgres."""
    clock, slot = SystemClock(), PolicySlot(_policy())
    fleet = Fleet(has_credential=lambda reference: True, today=clock.today)
    fleet.follow(slot.current)
    log = os.open(os.devnull, os.O_WRONLY)
    sink = LineSink(lambda part: os.write(log, part), dropped_line=lambda count: b"dropped")
    client = OneTarget()
    async with Spool.open(scratch / "spool", clock=clock, durability="os") as spool:
        provider = OpenAiProvider(client, NamedCredentials({}, directory=None))
        metrics = PrometheusReadings(
            Gauges(
                policy_digest=lambda: slot.current.digest,
                policy_refused=lambda: False,
                in_flight=fleet.in_flight,
                spool_depth=lambda: spool.depth,
                spool_quarantined=lambda: spool.quarantined,
                log_lines_dropped=lambda: sink.dropped,
            )
        )
        gateway = Gateway(
            clock=clock,
            limits=LimitGate(clock=clock),
            treasury=Treasury(clock=clock, wallet=Wallet(holder=spool.home), policy=slot),
            policy=slot,
            fleet=fleet,
            journal=spool,
            provider_of=lambda target: provider,
            readings=AllReadings(metrics, ReceiptLog(sink)),
            recent=RecentReceipts(),
            status_of=status_of,
        )
        caller = CallersEnd()
        caller.protocol = _protocol(
            HotRoutes(
                rest=_nobody,
                gateway=gateway,
                keys=_keys(),
                ids=RandomIds(),
                admission=Admission(most=1_000),
                body_limit_bytes=1 << 20,
                report_bug=_raise,
            )
        )
        caller.protocol.connection_made(cast(asyncio.Transport, caller))
        try:
            yield caller
        finally:
            sink.close(timeout_s=10)
            os.close(log)


def _protocol(app: HotRoutes) -> GatewayProtocol:
    config = uvicorn.Config(
        app, http=GatewayProtocol, ws="none", lifespan="off", loop="none", access_log=False, log_config=None,
        proxy_headers=False, server_header=False, date_header=False,
    )  # fmt: skip
    config.load()
    return GatewayProtocol(config=config, server_state=ServerState(), app_state={})


def _policy() -> Policy:
    policy = compile_policy({"all.yaml": POLICY.format(port=9)}).policy
    assert policy is not None
    return policy


def _keys() -> KnownKeys:
    pepper = Pepper(bytes(PEPPER_BYTES), version=1)
    keys = KnownKeys(Peppers({1: pepper}))
    caller = Caller(key_id=KEY_ID, team="bench", cost_centre="bench")
    digest = pepper.digest(KEY.encode())
    keys.replace_all([KeyRecord(caller=caller, name="bench", digest=digest, pepper_version=1, created_at_s=0)])
    return keys


async def _nobody(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("every request of this bench is hot")


def _raise(request_id: str, bug: BaseException) -> None:
    raise bug


def _compare(other: Path, *, rounds: int) -> int:
    trees = {"here": Path(__file__).parents[2], "there": other}
    best = dict.fromkeys(trees, float("inf"))
    for _ in range(TURNS):
        for name, tree in trees.items():
            best[name] = min(best[name], _measured(tree, rounds=rounds))
    print(
        f"here {best['here']:.1f} µs, there {best['there']:.1f} µs: {(best['here'] / best['there'] - 1) * 100:+.1f} %"
    )
    return 0


def _measured(tree: Path, *, rounds: int) -> float:
    """In a process of its own, by this very file, on the code of that checkout."""
    arguments = [sys.executable, "-P", __file__, "--rounds", str(rounds)]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    said = subprocess.run(arguments, cwd=tree, env=environment, capture_output=True, text=True, check=True).stdout
    return float(said.partition(": ")[2].partition(" ")[0])


if __name__ == "__main__":
    sys.exit(main())
