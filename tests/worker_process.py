"""A real CPU worker with the real model, in a process of its own. `cpu_worker` is the one that a session shares."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.free_ports import free_port

MODEL = "smollm2-135m-instruct"
ROOT = Path(__file__).parents[1]
START_S = 90.0
STOP_S = 30.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuWorker:
    """`pid` is the HTTP process; the engine is its child. `log` holds what both wrote to stderr."""

    base_url: str
    pid: int
    log: Path
    model: str = MODEL

    def health(self) -> int | None:
        """The status of /health, None when nobody listens."""
        try:
            with urllib.request.urlopen(f"{self.base_url}/health", timeout=5) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as answer:
            answer.close()
            return answer.code
        except OSError:
            return None

    def engine_pid(self) -> int | None:
        """The engine process, None while there is none."""
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            return int(children[0]) if children else None
        return None

    def wait_for_health(self, status: int | None, *, within_s: float) -> None:
        give_up = time.monotonic() + within_s
        while (seen := self.health()) != status:
            assert time.monotonic() < give_up, f"/health is {seen}, not {status}: {self.log.read_text()}"
            time.sleep(POLL_S)


@contextlib.contextmanager
def running_worker(*arguments: str, ready: bool = True) -> Iterator[tuple[CpuWorker, subprocess.Popen[bytes]]]:
    """Start a worker on a free port and wait until it is ready; at the end it is stopped, and killed if it must be."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "worker.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "app.worker", "--port", str(port), *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        try:
            worker = CpuWorker(base_url=f"http://127.0.0.1:{port}", pid=process.pid, log=log)
            if ready:
                _await_ready(worker, process)
            yield worker, process
        finally:
            stop(process)


@contextlib.contextmanager
def loading_worker() -> Iterator[tuple[CpuWorker, subprocess.Popen[bytes], int]]:
    """A worker whose engine, its third part, is held up while it loads."""
    for _ in range(5):
        with running_worker(ready=False) as (worker, process):
            give_up = time.monotonic() + START_S
            while (engine := worker.engine_pid()) is None or "loading" not in worker.log.read_text():
                assert time.monotonic() < give_up, worker.log.read_text()
                time.sleep(POLL_S)
            os.kill(engine, signal.SIGSTOP)
            while (status := worker.health()) is None:
                assert time.monotonic() < give_up, worker.log.read_text()
                time.sleep(POLL_S)
            if status == 503:
                yield worker, process, engine
                return
    raise AssertionError("no engine was met while it loads")


def stop(process: subprocess.Popen[bytes]) -> int:
    """SIGTERM, then SIGKILL; the exit status."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


_SHARED: pytest.StashKey[CpuWorker] = pytest.StashKey()


@pytest.fixture(scope="session")
def cpu_worker(request: pytest.FixtureRequest) -> Iterator[CpuWorker]:
    """The session's worker. However many conftests import this fixture, there is one process."""
    shared = request.config.stash.get(_SHARED, None)
    if shared is not None:
        yield shared
        return
    with running_worker() as (worker, _):
        request.config.stash[_SHARED] = worker
        yield worker
        del request.config.stash[_SHARED]


def _await_ready(worker: CpuWorker, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + START_S
    while worker.health() != 200:
        if process.poll() is not None:
            raise RuntimeError(f"the worker ended with {process.returncode}: {worker.log.read_text()}")
        if time.monotonic() > give_up:
            raise TimeoutError(f"the worker is not ready after {START_S:g} s: {worker.log.read_text()}")
        time.sleep(POLL_S)
