"""The processes of a bench: the upstream, nginx where it is installed, and the gateway with all that belongs to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from app.bootstrap import database_url, migrate
from app.bootstrap.office import office
from app.domain.ledger.report import CostQuery
from app.flows.keys import KeyWish, create_key
from app.settings import Settings
from tests.free_ports import free_port

ROOT = Path(__file__).parents[2]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
START_S = 60.0


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + START_S
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        if time.monotonic() > give_up:
            raise TimeoutError(f"nobody listens on {port}")
        time.sleep(0.05)


def group_cpu_s(leader: int) -> float:
    """User and system seconds of all processes of a process group, those that ended in it included."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == leader:
                ticks += sum(int(fields[place]) for place in (11, 12, 13, 14))
    return ticks / TICKS_PER_S


class _Process:
    def __init__(self, arguments: list[str], *, port: int, env: dict[str, str] | None = None, log: Path) -> None:
        self.port = port
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                arguments, cwd=ROOT, env={**os.environ, **(env or {})}, stdout=out, stderr=out, start_new_session=True
            )
        wait_for_port(port, self.process)

    def cpu_s(self) -> float:
        return group_cpu_s(self.process.pid)

    def rss_mib(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


class Upstream:
    """The cheap upstream, for the length of a block."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    def __enter__(self) -> Self:
        self.port = free_port()
        arguments = [sys.executable, "-m", "tests.bench.upstream", str(self.port)]
        self._running = _Process(arguments, port=self.port, log=self._scratch / "upstream.log")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.stop()


class Proxy(_Process):
    """It only hands on: nginx, or the least that the gateway's libraries can do."""

    key = "none"


NGINX = """
worker_processes 1; daemon off; pid {scratch}/nginx.pid; error_log {scratch}/nginx-error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {scratch}/nginx-body; proxy_temp_path {scratch}/nginx-proxy;
  fastcgi_temp_path {scratch}/nginx-f; uwsgi_temp_path {scratch}/nginx-u; scgi_temp_path {scratch}/nginx-s;
  keepalive_requests 1000000;
  upstream cheap {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://cheap; proxy_http_version 1.1;
      proxy_set_header connection ""; proxy_buffering off; }}
  }}
}}
"""


@contextlib.contextmanager
def nginx_house(scratch: Path, upstream: Upstream) -> Iterator[Proxy | None]:
    """nginx in front of the upstream; None where it is not installed."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        yield None
        return
    port = free_port()
    conf = scratch / "nginx.conf"
    conf.write_text(NGINX.format(scratch=scratch, upstream=upstream.port, port=port))
    running = Proxy([program, "-c", str(conf), "-e", str(scratch / "e.log")], port=port, log=scratch / "nginx.log")
    try:
        yield running
    finally:
        running.stop()


@contextlib.contextmanager
def bare_house(scratch: Path, upstream: Upstream) -> Iterator[Proxy]:
    """A relay out of the gateway's libraries and nothing else, in front of the upstream."""
    port = free_port()
    arguments = [sys.executable, "-m", "tests.bench.bare", str(port), str(upstream.port)]
    running = Proxy(arguments, port=port, log=scratch / "bare.log")
    try:
        yield running
    finally:
        running.stop()


class Gateway(_Process):
    """The gateway with policy, key, spool and Postgres."""

    def __init__(self, settings: Settings, url: str, key: str, scratch: Path) -> None:
        self.key = key
        self._settings = settings.model_copy(update={"database_url": url})
        env = {
            "BREAKEVEN_DATA": str(settings.data),
            "BREAKEVEN_POLICIES": str(settings.policies),
            "BREAKEVEN_PORT": str(settings.port),
            "DATABASE_URL": url,
        }
        super().__init__(
            [sys.executable, "-m", "app", "gateway"], port=settings.port, env=env, log=scratch / "gateway.log"
        )

    async def booked(self) -> int:
        """Receipts in the books once the spool is empty."""
        async with office(self._settings) as rooms:
            last = -1
            while True:
                now = rooms.clock.unix_us()
                books = await rooms.reports.read(_all_until(now))
                count = sum(line.sums.requests for line in books.lines)
                if count == last:
                    return count
                last = count
                await asyncio.sleep(1)


POLICY = """
targets:
  upstream:
    hosting: managed
    provider: openai
    url: http://127.0.0.1:{port}/v1
    model: m
    can: [chat, completions]
models:
  chat:
    rules:
      - name: short prompts
        when: request.prompt_tokens < 10
        use: [upstream]
      - name: legal
        when: caller.team == "legal" || request.data_class == "restricted"
        use: [upstream]
      - name: all
        use: [upstream]
rates:
  targets:
    upstream: {{usd_per_million_tokens: {{prompt: 0.25, cached_prompt: 0.025, completion: 2.00}}}}
"""


@contextlib.asynccontextmanager
async def gateway_house(scratch: Path, upstream: Upstream) -> AsyncIterator[Gateway]:
    """The gateway in front of the upstream."""
    policies = scratch / "policies"
    policies.mkdir()
    (policies / "all.yaml").write_text(POLICY.format(port=upstream.port))
    settings = Settings(data=scratch / "data", policies=policies, port=free_port())
    with database_url(settings) as url:
        await asyncio.to_thread(migrate, url)
        async with office(settings.model_copy(update={"database_url": url})) as rooms:
            wish = KeyWish(name="bench", team="bench", cost_centre="bench")
            made = await create_key(
                rooms.keys, wish, peppers=rooms.peppers, clock=rooms.clock, random_bytes=rooms.random_bytes
            )
        gateway = Gateway(settings, url, made.text, scratch)
        try:
            yield gateway
        finally:
            gateway.stop()


def _all_until(now_us: int) -> CostQuery:
    until = datetime.fromtimestamp(now_us / 1e6, UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    return CostQuery(since=until - timedelta(days=1), until=until)
