"""The CPU worker: the engine in a process of its own, and vLLM's routes in this one."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
import uvloop
from rich.console import Console

from app.worker.engine_process import EngineStart
from app.worker.http import Served, WorkerApp
from app.worker.link import EngineFailed, EngineLink
from app.worker.metrics import Metrics
from app.worker.options import WorkerOptions
from app.worker.progress import LoadingProgress
from app.worker.weights import find_weights

BACKLOG: Final = 1024
KEEP_ALIVE_S: Final = 75


def serve_cpu(options: WorkerOptions, listener: socket.socket, console: Console) -> int:
    """Serve until SIGTERM or SIGINT. The exit status: 0, or 1 when the engine never became ready."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(options, listener, console))


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers, which raise the signal again when all is closed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(options: WorkerOptions, listener: socket.socket, console: Console) -> int:
    weights = find_weights(options.model)
    metrics = Metrics(options.served_name)
    progress = LoadingProgress(console, model=options.served_name)
    link = EngineLink(
        EngineStart(
            weights=weights,
            context_tokens=options.context_tokens,
            max_num_seqs=options.max_num_seqs,
            threads=options.threads or max((os.cpu_count() or 1) - 1, 1),
            cache_gb=options.cache_gb,
            parent=os.getpid(),
        ),
        metrics=metrics,
        max_num_queued_reqs=options.max_num_queued_reqs,
        stall_limit_s=options.stall_limit_s,
        clock=time.monotonic,
        progress=progress.saw,
    )
    served = Served(
        name=options.served_name,
        weights_name=weights.name,
        context_tokens=options.context_tokens,
        created_s=int(time.time()),
        unix_time=time.time,
    )
    server = _server(WorkerApp(served, link, metrics), drain_s=options.drain_s)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _stop, server)
    status = 0
    try:
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(link.run())
            announcing = tasks.create_task(_announce(link, progress, console, listener))
            serving = tasks.create_task(server.serve(sockets=[listener]))
            serving.add_done_callback(lambda _: (keeping.cancel(), announcing.cancel()))
    except* EngineFailed as failed:
        said = f"The engine could not be started: {failed.exceptions[0]}"
        console.print(said, highlight=False, markup=False, soft_wrap=True)
        status = 1
    return status


def _server(app: WorkerApp, *, drain_s: float) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(round(drain_s), 1),
        )
    )


def _stop(server: uvicorn.Server) -> None:
    """The first signal lets answers in progress end; the second does not wait for them."""
    server.force_exit = server.should_exit
    server.should_exit = True


async def _announce(link: EngineLink, progress: LoadingProgress, console: Console, listener: socket.socket) -> None:
    """Show the loading, then say where the worker answers."""
    with progress.shown():
        await link.first_ready.wait()
    host, port = listener.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    console.print(f"The worker answers at http://{address}", highlight=False, soft_wrap=True)
