"""A listening socket, a loop, a server that stops when told, and several processes on one port."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import multiprocessing
import multiprocessing.connection
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.context import SpawnProcess
from typing import Any, ParamSpec, TypeVar

import uvicorn
import uvloop

from app.bootstrap.protocol import GatewayProtocol
from app.domain.errors import SetupError

BACKLOG = 2048
#: How often connections are looked at whose heads do not come.
LOOK_EVERY_S = 1.0
KEEP_ALIVE_S = 75
#: A child that died is started again after this long; longer each time it dies young.
RESTART_FIRST_S = 0.5
RESTART_MOST_S = 10.0

#: Allocations between collections of the youngest, and how many of those before an older generation's turn. CPython's
#: 700 costs a busy gateway a tenth of its time.
GC_THRESHOLDS = (50_000, 20, 50)

#: How long a thread that computes, such as one that compiles a new policy, may keep the event loop waiting at a time.
#: With CPython's 5 ms the loop would turn 200 times a second meanwhile; where no thread computes, the short interval
#: costs a busy gateway a twentieth of its time in hand-overs between its loop and its spool.
POLITE_SWITCH_INTERVAL_S = 0.0005

P = ParamSpec("P")
R = TypeVar("R")
App = Callable[..., Awaitable[None]]


def listening(host: str, port: int, *, variable: str) -> socket.socket:
    """A bound, listening socket. Raises SetupError naming the variable that chooses the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only where it sees it; without, small answers wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as fault:
        listener.close()
        raise SetupError(
            f"port {port} on {host} cannot be used ({fault.strerror}): stop what uses it, or choose another in "
            f"{variable}"
        ) from fault
    listener.set_inheritable(True)
    return listener


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a program's main coroutine on uvloop.

    What stands at the start stands for ever, so the cycle collector need not look at it again and again; the values of
    a request hold no cycles and are freed by their counts.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.get_loop().set_default_executor(PoliteExecutor())
        runner.run(main)


class PoliteExecutor(ThreadPoolExecutor):
    """Threads for work that computes: while one of them works, the interpreter hands over more often."""

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="work")
        self._lock = threading.Lock()
        self._working = 0
        self._usual_s = sys.getswitchinterval()

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        return super().submit(self._politely, functools.partial(fn, *args, **kwargs))

    def _politely(self, work: Callable[[], R]) -> R:
        self._count(+1)
        try:
            return work()
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self._working += change
            sys.setswitchinterval(POLITE_SWITCH_INTERVAL_S if self._working else self._usual_s)


class _Server(uvicorn.Server):
    """uvicorn without its own signals: it re-raises them before anything is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    app: App,
    listener: socket.socket,
    *,
    stop: asyncio.Event,
    drain_s: float,
    linger_s: float = 0.0,
    stopping: Callable[[], None] = lambda: None,
) -> None:
    """Serve until `stop` is set; then call `stopping`, serve what still comes for `linger_s`, so that whoever spreads
    the load hears of it first, take nothing new, and wait up to `drain_s` for what runs."""
    server = _Server(
        uvicorn.Config(
            app,
            http=GatewayProtocol,
            ws="none",
            lifespan="off",
            loop="none",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(drain_s)),
            backlog=BACKLOG,
        )
    )
    async with asyncio.TaskGroup() as group:
        beside = (
            group.create_task(_stop_when(stop, server, linger_s=linger_s, stopping=stopping)),
            group.create_task(_end_the_slow(server)),
        )
        await server.serve(sockets=[listener])
        for task in beside:
            task.cancel()


async def _stop_when(
    stop: asyncio.Event, server: uvicorn.Server, *, linger_s: float, stopping: Callable[[], None]
) -> None:
    await stop.wait()
    stopping()
    await asyncio.sleep(linger_s)
    server.should_exit = True


async def _end_the_slow(server: uvicorn.Server) -> None:
    """Callers whose heads do not come in time are answered so; uvicorn itself waits for ever."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        now_s = loop.time()
        for connection in tuple(server.server_state.connections):
            if isinstance(connection, GatewayProtocol):
                connection.end_if_late(now_s=now_s)


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM, SIGINT, and the end of a parent process set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    parent = multiprocessing.parent_process()
    if parent is not None:
        loop.add_reader(parent.sentinel, stop.set)
    return stop


def serve_in_processes(count: int, target: Callable[..., None], arguments: tuple[object, ...]) -> None:
    """Run `target(*arguments)` in `count` processes until SIGTERM or SIGINT; a process that dies is started again."""
    crew = _Crew(target, arguments)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, crew.stop)
    for _ in range(count):
        crew.start()
    while not crew.stopping:
        crew.watch()
    crew.dismiss()


class _Crew:
    """The processes of one port."""

    def __init__(self, target: Callable[..., None], arguments: tuple[object, ...]) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._target = target
        self._arguments = arguments
        self._running: list[SpawnProcess] = []
        self._pause_s = RESTART_FIRST_S
        self.stopping = False

    def start(self) -> None:
        process = self._context.Process(target=self._target, args=self._arguments)
        process.start()
        self._running.append(process)

    def stop(self, signum: int, frame: object) -> None:
        """A signal came: pass it on."""
        self.stopping = True
        for process in self._running:
            if process.is_alive():
                process.terminate()

    def watch(self) -> None:
        """Wait a while; start another for each process that ended."""
        sentinels = [process.sentinel for process in self._running]
        ended = multiprocessing.connection.wait(sentinels, timeout=RESTART_MOST_S)
        if not ended:
            self._pause_s = RESTART_FIRST_S
            return
        for process in [process for process in self._running if process.sentinel in ended]:
            process.join()
            self._running.remove(process)
            if self.stopping:
                continue
            sys.stderr.write(f"gateway process {process.pid} ended with {process.exitcode}; starting another\n")
            time.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, RESTART_MOST_S)
            self.start()

    def dismiss(self) -> None:
        """Wait for all to end; one that was started while the signal came is told too."""
        for process in self._running:
            if process.is_alive():
                process.terminate()
            process.join()
