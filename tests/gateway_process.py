"""A real gateway, in processes of its own, over a database and a data directory of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from app.bootstrap.office import office
from app.bootstrap.run_files import metrics_of_all
from app.domain.ledger.receipt import Receipt
from app.flows.keys import KeyWish, create_key
from app.settings import Settings
from tests.free_ports import free_port

ROOT = Path(__file__).parents[1]
START_S = 60.0
STOP_S = 60.0
#: Between polls for something that a process of ours is about to do.
POLL_S = 0.05
#: No target is this late on a machine that does anything at all: what a test does not mean to be a time-out is none.
PATIENT = "{connect_s: 10, first_token_s: 60, idle_s: 60, total_s: 120}"
#: For tests of targets that say nothing.
BRIEF = "{connect_s: 2, first_token_s: 2, idle_s: 2, total_s: 10}"
_LAG = re.compile(rb"\nbreakeven_event_loop_lag_seconds_sum (\S+)\nbreakeven_event_loop_lag_seconds_count (\d+)\n")


@dataclass(slots=True)
class GatewayProcess:
    """Start, kill and start again; the data directory, the database and the key stay."""

    data: Path
    policies: Path
    database_url: str
    port: int = field(default_factory=free_port)
    environment: Mapping[str, str] = field(default_factory=dict)
    workers: int = 1
    key: str = ""
    #: The checkout whose code it runs.
    root: Path = ROOT
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.data / "gateway.log"

    @property
    def pid(self) -> int:
        assert self._process is not None, "it is not started"
        return self._process.pid

    @property
    def lives(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def settings(self) -> Settings:
        return Settings(data=self.data, policies=self.policies, port=self.port).model_copy(
            update={"database_url": self.database_url}
        )

    def crew(self) -> list[int]:
        """Gateway processes of a crew: children that are not multiprocessing's own tracker, nor on their way out."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                command = (path.parent / "cmdline").read_bytes()
                if int(fields[1]) == self.pid and fields[0] != "Z" and b"spawn_main" in command:
                    found.append(int(path.parent.name))
        return sorted(found)

    async def make_key(self, **named: Any) -> str:
        """A new virtual key of team "research"."""
        wish = KeyWish(**{"name": "test", "team": "research", "cost_centre": "cc-1", **named})
        async with office(self.settings) as rooms:
            made = await create_key(
                rooms.keys, wish, peppers=rooms.peppers, clock=rooms.clock, random_bytes=rooms.random_bytes
            )
        return made.text

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        if not self.key:
            self.key = await self.make_key()
        environment = {
            **{name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"},
            "BREAKEVEN_DATA": str(self.data),
            "BREAKEVEN_POLICIES": str(self.policies),
            "BREAKEVEN_PORT": str(self.port),
            "DATABASE_URL": self.database_url,
            **self.environment,
        }
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app", "gateway", "--workers", str(self.workers)],
                cwd=self.root,
                env=environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        await self._ready()

    async def _ready(self) -> None:
        give_up = time.monotonic() + START_S
        async with aiohttp.ClientSession() as session:
            while True:
                assert self._process is not None
                if self._process.poll() is not None:
                    raise RuntimeError(f"the gateway ended with {self._process.returncode}: {self.log.read_text()}")
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{self.url}/livez") as answer:
                        if answer.status == 200:
                            return
                if time.monotonic() > give_up:
                    raise TimeoutError(f"the gateway is not ready: {self.log.read_text()}")
                await asyncio.sleep(POLL_S)

    def kill(self) -> None:
        """kill -9, at once, the whole group."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP_S)

    def ended(self, *, within_s: float) -> int:
        """Its exit status once it has ended by itself."""
        assert self._process is not None
        return self._process.wait(within_s)

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        if self._process is None or self._process.poll() is not None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_S)

    async def receipt(self, request_id: str, *, within_s: float = 20.0) -> Receipt:
        """The receipt once it is in Postgres."""
        async with office(self.settings) as rooms:
            give_up = time.monotonic() + within_s
            while (found := await rooms.ledger.find(request_id)) is None:
                assert time.monotonic() < give_up, f"no receipt of {request_id} in Postgres"
                await asyncio.sleep(POLL_S)
            return found

    async def receipts(self, count: int, *, within_s: float = 20.0) -> list[Receipt]:
        """All receipts in Postgres once there are `count` of them, and a moment later, so that doubles would show."""
        async with office(self.settings) as rooms:
            give_up = time.monotonic() + within_s
            while len(found := await rooms.ledger.latest(most=100_000)) < count:
                assert time.monotonic() < give_up, f"{len(found)} of {count} receipts are in Postgres"
                await asyncio.sleep(POLL_S)
            await asyncio.sleep(0.5)
            return list(await rooms.ledger.latest(most=100_000))

    async def metrics(self) -> list[bytes]:
        """What each of its processes tells, once all of them do: one that gets no time to answer is asked again."""
        async with asyncio.timeout(START_S):
            while len(found := await metrics_of_all(self.settings)) != self.workers:
                await asyncio.sleep(POLL_S)
        return [*found.values()]

    async def loop_turns(self) -> tuple[int, float]:
        """How often the loops of its processes have looked at the clock, four times a second each, and by how many
        seconds in all they were late with that: what a machine that stands still has taken from them."""
        told = [_LAG.search(text) for text in await self.metrics()]
        return sum(int(each[2]) for each in told if each), sum(float(each[1]) for each in told if each)

    def log_lines(self) -> list[dict[str, Any]]:
        """The JSON lines of its log."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    @contextlib.asynccontextmanager
    async def session(self, *, key: str | None = None) -> AsyncIterator[aiohttp.ClientSession]:
        """A client that shows the key."""
        headers = {"authorization": f"Bearer {self.key if key is None else key}"}
        async with aiohttp.ClientSession(self.url, headers=headers) as session:
            yield session


def write_policy(
    directory: Path,
    *,
    targets: Mapping[str, str],
    rules: str | None = None,
    extra: str = "",
    first_limits: str = "{}",
    timeouts: str = PATIENT,
) -> Path:
    """A policy of hosted targets, name → URL, all used by the model `chat` in this order; the first has limits."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = ["targets:"]
    for name, url in targets.items():
        lines += [
            f"  {name}:",
            "    hosting: managed",
            "    provider: openai",
            f"    url: {url}",
            "    model: upstream-model",
            "    can: [chat, completions, json_schema, tools]",
            f"    limits: {first_limits if name == next(iter(targets)) else '{}'}",
        ]
    use = ", ".join(targets)
    lines += [
        "models:",
        "  chat:",
        f"    timeouts: {timeouts}",
        "    rules:",
    ]
    lines += [rules or f"      - {{name: all, use: [{use}]}}"]
    lines += ["rates:", "  targets:"]
    lines += [
        f"    {name}: {{usd_per_million_tokens: {{prompt: 1, cached_prompt: 0.1, completion: 10}}}}" for name in targets
    ]
    (directory / "all.yaml").write_text("\n".join([*lines, extra, ""]))
    return directory
