"""vLLM's own server as a worker, on GPUs or as its CPU build: started with a gateway's flags, and kept running."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from app.worker.options import WorkerOptions

BACKOFF_FIRST_S: Final = 1.0
BACKOFF_MOST_S: Final = 60.0
#: A server that lived this long was healthy; the next failure starts the backoff anew.
HEALTHY_AFTER_S: Final = 300.0
#: Added to `drain_s`, for vLLM to end its own processes after the last answer.
STOP_MORE_S: Final = 15.0
#: How often, in seconds, a stream that waits in vLLM's queue says that it is alive.
KEEP_ALIVE_S: Final = 15
_PR_SET_PDEATHSIG: Final = 1

_log = logging.getLogger(__name__)


def vllm_command(options: WorkerOptions) -> list[str]:
    """How vLLM's server is started.

    Cached tokens and per-request times are what the ledger needs; a bounded queue is what the router needs; request ids
    join the two logs. Statistics are never switched off: they are the metrics. Usage is not forced upon every stream,
    as vLLM would write it into each chunk then: the gateway asks for it at the end of its own.
    """
    if options.model is None:
        raise ValueError("vLLM needs a model directory")
    return [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(options.model)),
        *("--host", options.host, "--port", str(options.port)),
        *("--served-model-name", options.served_name),
        *("--max-model-len", str(options.context_tokens)),
        *("--max-num-seqs", str(options.max_num_seqs)),
        *("--max-num-queued-reqs", str(options.max_num_queued_reqs)),
        *("--sse-keep-alive-interval", str(KEEP_ALIVE_S)),
        *("--shutdown-timeout", str(round(options.drain_s))),
        "--enable-prompt-tokens-details",
        "--enable-per-request-metrics",
        "--enable-request-id-headers",
        "--enable-mfu-metrics",
        *options.vllm_arguments,
    ]


def vllm_environment(given: Mapping[str, str]) -> dict[str, str]:
    """The environment of vLLM's server: its makers are told nothing of its use, unless `given` says otherwise."""
    return {"VLLM_NO_USAGE_STATS": "1", **given}


def serve_vllm(options: WorkerOptions) -> int:
    """Serve until SIGTERM or SIGINT. The exit status is 0."""
    return asyncio.run(_serve(vllm_command(options), stop_within_s=options.drain_s + STOP_MORE_S))


async def _serve(command: Sequence[str], *, stop_within_s: float) -> int:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    environment = vllm_environment(os.environ)
    await keep_running(command, stopping=stopping, stop_within_s=stop_within_s, environment=environment)
    return 0


async def keep_running(
    command: Sequence[str],
    *,
    stopping: asyncio.Event,
    stop_within_s: float,
    backoff_first_s: float = BACKOFF_FIRST_S,
    clock: Callable[[], float] = time.monotonic,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program, again and again with growing pauses whenever it ends, until `stopping` is set.

    `environment` None is this process's own. At the end the program gets SIGTERM, and its whole process group SIGKILL
    if it is not gone within `stop_within_s`. On Linux the kernel ends it when this process is killed.
    """
    backoff_s = backoff_first_s
    while not stopping.is_set():
        began_s = clock()
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent,
            env=environment,
        )
        failed = await _ended_before(stopping, process)
        await _stop(process, within_s=stop_within_s)
        if failed:
            backoff_s = backoff_first_s if clock() - began_s > HEALTHY_AFTER_S else backoff_s
            _log.error("the server ended with %s; the next one starts in %.1f s", process.returncode, backoff_s)
            await _pause(stopping, backoff_s)
            backoff_s = min(2 * backoff_s, BACKOFF_MOST_S)


async def _ended_before(stopping: asyncio.Event, process: asyncio.subprocess.Process) -> bool:
    """Wait for either; True when the process ended by itself."""
    async with asyncio.TaskGroup() as tasks:
        ending = tasks.create_task(process.wait())
        asked = tasks.create_task(stopping.wait())
        ending.add_done_callback(lambda _: asked.cancel())
        asked.add_done_callback(lambda _: ending.cancel())
    return process.returncode is not None


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()


async def _stop(process: asyncio.subprocess.Process, *, within_s: float) -> None:
    """End it and whatever it started: vLLM's engine is a process of its own, and may outlive a server that crashed."""
    if process.returncode is None:
        process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
