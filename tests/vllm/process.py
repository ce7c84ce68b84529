"""The real vLLM in processes of its own, started by our worker as on a GPU machine, with the small model."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app.worker.hugging_face import convert
from app.worker.weights import find_weights
from tests.free_ports import free_port
from tests.worker_process import MODEL, stop

ROOT = Path(__file__).parents[2]
#: On two busy cores with a cold disk it took 170 s.
START_S = 600.0
IDLE_S = 120.0
POLL_S = 0.1
CONTEXT = 4096
SEQS = 4
QUEUED = 6
#: What our worker passes on. Without AVX-512 16-bit floats are slow, and compiling takes longer than all the tests.
ARGUMENTS = ("--dtype", "float32", "--enforce-eager", "--enable-auto-tool-choice", "--tool-call-parser", "hermes")
#: Gigabytes for the KV cache; the last core, as the CPU worker takes the first; and nobody is asked or told anything.
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": str(max(os.sched_getaffinity(0))),
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RealVllm:
    base_url: str
    #: What it and our worker wrote.
    log: Path
    model: str = MODEL
    #: Our worker, which keeps it running; 0: somebody else's.
    pid: int = 0

    @property
    def lives(self) -> bool:
        with contextlib.suppress(OSError):
            return self.get("/health") == b""
        return False

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"{self.base_url}{path}", timeout=30) as answer:
            said: bytes = answer.read()
            return said

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        """Straight to vLLM, past the gateway: the status and the body."""
        request = urllib.request.Request(
            f"{self.base_url}{path}",
            json.dumps({"model": self.model, **body}).encode(),
            {"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, answer.read()

    def figure(self, metric: str) -> float:
        """The sum of a metric's series, read by other eyes than the gateway's."""
        lines = self.get("/metrics").decode().splitlines()
        found = [line.rpartition(" ")[2] for line in lines if line.startswith((f"{metric}{{", f"{metric} "))]
        assert found, f"{metric} is not told"
        return sum(map(float, found))

    @property
    def busy(self) -> int:
        return int(self.figure("vllm:num_requests_running") + self.figure("vllm:num_requests_waiting"))

    def engine_pid(self) -> int:
        """The process that computes, two below our worker's."""
        for server in _children(self.pid):
            for child in _children(server):
                if b"EngineCore" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return child
        raise AssertionError("there is no engine process")

    def wait_until_idle(self) -> None:
        self.wait_for(0)

    def wait_for(self, busy: int) -> None:
        """Until so many run and wait together."""
        give_up = time.monotonic() + IDLE_S
        while (seen := self.busy) != busy:
            assert time.monotonic() < give_up, f"{seen} run and wait, not {busy}"
            time.sleep(POLL_S)

    @contextlib.contextmanager
    def crowded(self, count: int = QUEUED) -> Iterator[None]:
        """So many callers with long answers, straight at vLLM; they hang up at the end."""
        where = urlsplit(self.base_url)
        body = json.dumps(
            {
                "model": self.model,
                "messages": [{"role": "user", "content": "Tell me a long story."}],
                "max_tokens": 3500,
                "ignore_eos": True,
                "stream": True,
            }
        ).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        with contextlib.ExitStack() as sockets:
            for _ in range(count):
                caller = sockets.enter_context(socket.create_connection((where.hostname or "", where.port or 0)))
                caller.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            self.wait_for(count)
            yield
        self.wait_until_idle()


@contextlib.contextmanager
def running_vllm(python: Path) -> Iterator[RealVllm]:
    """Convert the model, start vLLM through our worker and wait until it is ready. VLLM_URL names one that runs."""
    running = os.environ.get("VLLM_URL")
    if running:
        yield RealVllm(base_url=running, log=Path(os.devnull))
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        model, log = Path(directory) / "model", Path(directory) / "vllm.log"
        convert(find_weights(), model)
        named = ("--model", str(model), "--context-tokens", str(CONTEXT), "--max-num-seqs", str(SEQS))
        named += ("--max-num-queued-reqs", str(QUEUED))
        with log.open("wb") as out:
            process = subprocess.Popen(
                [python, "-m", "app.worker", "--engine", "vllm", "--port", str(port), *named, "--", *ARGUMENTS],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **ENVIRONMENT},
            )
        try:
            vllm = RealVllm(base_url=f"http://127.0.0.1:{port}", log=log, pid=process.pid)
            await_ready(vllm, process)
            yield vllm
        finally:
            stop(process)


def await_ready(vllm: RealVllm, process: subprocess.Popen[bytes] | None = None) -> None:
    """Until it says that it is; it may take minutes."""
    give_up = time.monotonic() + START_S
    while not vllm.lives:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"the worker ended with {process.returncode}: {vllm.log.read_text()}")
        if time.monotonic() > give_up:
            raise TimeoutError(f"vLLM is not ready after {START_S:g} s: {vllm.log.read_text()}")
        time.sleep(POLL_S)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
