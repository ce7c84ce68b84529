"""The HTTP process's end of the engine: started, watched, started again, and never left behind."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import app as package
from app.worker.answers import AnswerGroup, OpenAnswer, observe
from app.worker.engine_process import EngineStart
from app.worker.messages import (
    Accepted,
    Cancel,
    Decode,
    Decoded,
    Encode,
    Encoded,
    Failed,
    FromEngine,
    Loading,
    Ready,
    Refused,
    Sampling,
    Step,
    Submit,
    ToEngine,
    http_framing,
)
from app.worker.metrics import Metrics
from app.worker.refusals import busy, engine_dead, from_engine, not_ready

LOAD_LIMIT_S: Final = 600.0
STOP_WITHIN_S: Final = 5.0
BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MOST_S: Final = 30.0
#: An engine that lived this long was healthy; the next failure starts the backoff anew.
HEALTHY_AFTER_S: Final = 60.0
_CHUNK_BYTES: Final = 1 << 20
#: How many calls to the tokenizer may wait for the engine's next step.
CALLS_MOST: Final = 256

_log = logging.getLogger(__name__)


class EngineFailed(Exception):
    """The first engine never became ready; the message is its own."""


class EngineLink:
    """One engine at a time. `run` keeps it alive; the rest may be called from the same event loop at any time."""

    def __init__(
        self,
        start: EngineStart,
        *,
        metrics: Metrics,
        max_num_queued_reqs: int,
        stall_limit_s: float,
        clock: Callable[[], float],
        progress: Callable[[Loading], None],
    ) -> None:
        self.ready: Ready | None = None
        self.first_ready = asyncio.Event()
        self._start = start
        self._metrics = metrics
        self._most_open = max_num_queued_reqs
        self._stall_limit_s = stall_limit_s
        self._clock = clock
        self._progress = progress
        self._writer: asyncio.StreamWriter | None = None
        self._framing = http_framing()
        self._open: dict[int, OpenAnswer] = {}
        self._calls: dict[int, asyncio.Future[Encoded | Decoded]] = {}
        self._last_number = 0
        self._running = self._preemptions = self._drifts = 0

    async def run(self) -> None:
        """Until cancelled. Raises EngineFailed when the first engine fails before it is ready."""
        backoff_s = BACKOFF_FIRST_S
        while True:
            began_s = self._clock()
            said = await self._one_life()
            if not self.first_ready.is_set():
                raise EngineFailed(said or "the engine ended while it was loading")
            lived_s = self._clock() - began_s
            backoff_s = BACKOFF_FIRST_S if lived_s > HEALTHY_AFTER_S else min(2 * backoff_s, BACKOFF_MOST_S)
            _log.error("the engine ended (%s); the next one starts in %.1f s", said or "no word", backoff_s)
            await asyncio.sleep(backoff_s)
            self._metrics.engine_restarts.inc()

    def open(
        self, prompt: str | tuple[int, ...], samplings: list[Sampling], *, add_special_tokens: bool
    ) -> AnswerGroup:
        """Ask for one answer per sampling. Raises Refusal when there is no engine or no room."""
        if self.ready is None:
            raise not_ready()
        if len(self._open) + len(samplings) > self._most_open:
            self._metrics.rejected.inc()
            raise busy()
        news, arrived_s = asyncio.Event(), self._clock()
        answers = [OpenAnswer(self._next_number(), arrived_s=arrived_s, news=news) for _ in samplings]
        for answer, sampling in zip(answers, samplings, strict=True):
            self._open[answer.number] = answer
            self._say(
                Submit(
                    request_id=answer.number,
                    prompt=prompt,
                    add_special_tokens=add_special_tokens,
                    sampling=sampling,
                )
            )
        self._count()
        return AnswerGroup(answers, news=news, cancel=self._cancel)

    async def encode(self, text: str, *, add_special_tokens: bool) -> Encoded:
        """Raises Refusal when there is no engine."""
        number = self._next_number()
        reply = await self._call(number, Encode(call_id=number, text=text, add_special_tokens=add_special_tokens))
        assert isinstance(reply, Encoded)
        return reply

    async def decode(self, tokens: tuple[int, ...]) -> Decoded:
        """Raises Refusal when there is no engine."""
        number = self._next_number()
        reply = await self._call(number, Decode(call_id=number, tokens=tokens))
        assert isinstance(reply, Decoded)
        return reply

    async def _call(self, number: int, message: Encode | Decode) -> Encoded | Decoded:
        if self.ready is None:
            raise not_ready()
        if len(self._calls) >= CALLS_MOST:
            raise busy()
        reply: asyncio.Future[Encoded | Decoded] = asyncio.get_running_loop().create_future()
        self._calls[number] = reply
        try:
            self._say(message)
            return await reply
        finally:
            self._calls.pop(number, None)

    def _cancel(self, answer: OpenAnswer) -> None:
        if self._open.pop(answer.number, None) is None:
            return
        self._metrics.finished("abort")
        self._say(Cancel(request_id=answer.number))
        self._count()

    async def _one_life(self) -> str | None:
        """One engine from start to end; returns its last words."""
        async with self._process() as (reader, process):
            try:
                return await self._listen(reader)
            except TimeoutError as silence:
                process.kill()
                return str(silence)
            finally:
                self._end_of_life()

    async def _listen(self, reader: asyncio.StreamReader) -> str | None:
        """Until the engine ends; returns its last words. Raises TimeoutError when it hangs."""
        said: str | None = None
        while True:
            limit_s = LOAD_LIMIT_S if self.ready is None else self._stall_limit_s
            try:
                async with asyncio.timeout(limit_s):
                    chunk = await reader.read(_CHUNK_BYTES)
            except TimeoutError:
                if self.ready is None or self._open or self._calls:
                    raise TimeoutError(f"it was silent for {limit_s:g} s with work to do") from None
                continue
            except ConnectionError:
                return said
            if not chunk:
                return said
            for message in self._framing.feed(chunk):
                said = message.said if isinstance(message, Failed) else said
                self._heard(message)

    def _heard(self, message: FromEngine) -> None:
        match message:
            case Step():
                self._step(message)
            case Accepted() if message.request_id in self._open:
                self._open[message.request_id].accepted(message.prompt_tokens)
            case Refused() if message.request_id in self._open:
                fault = from_engine(message, context_tokens=self._start.context_tokens)
                self._open.pop(message.request_id).failed(fault)
                self._count()
            case Encoded() | Decoded() if message.call_id in self._calls:
                call = self._calls.pop(message.call_id)
                if not call.done():
                    call.set_result(message)
            case Ready():
                self.ready = message
                self._metrics.engine_ready(message, context_tokens=self._start.context_tokens)
                self.first_ready.set()
            case Loading():
                self._progress(message)
            case _:
                pass  # Said of what nobody waits for any more.

    def _step(self, step: Step) -> None:
        at_s = self._clock()
        for started in step.started:
            answer = self._open.get(started.request_id)
            if answer is not None:
                answer.started(started, at_s=at_s)
                self._metrics.prefix_queries.inc(answer.prompt_tokens or 0)
                self._metrics.prefix_hits.inc(started.cached_tokens)
        for delta in step.deltas:
            answer = self._open.get(delta.request_id)
            if answer is None:
                continue
            before_s = answer.last_token_s
            answer.grew(delta, at_s=at_s)
            observe(answer, self._metrics, delta, before_s=before_s, at_s=at_s)
            if answer.over:
                del self._open[answer.number]
        self._running = step.running
        self._metrics.cache_used.set(step.cache_used)
        self._metrics.preemptions.inc(step.preemptions - self._preemptions)
        self._metrics.account_drifts.inc(step.drifts - self._drifts)
        self._preemptions, self._drifts = step.preemptions, step.drifts
        self._count()

    def _count(self) -> None:
        """What was submitted and is not inside the engine waits, wherever it is just now."""
        self._metrics.running.set(self._running)
        self._metrics.waiting.set(max(len(self._open) - self._running, 0))

    def _end_of_life(self) -> None:
        self.ready, self._writer, self._framing = None, None, http_framing()
        self._running = self._preemptions = self._drifts = 0
        for answer in self._open.values():
            answer.failed(engine_dead())
            self._metrics.finished("error")
        self._open.clear()
        for call in self._calls.values():
            if not call.done():
                call.set_exception(engine_dead())
        self._calls.clear()
        self._metrics.cache_used.set(0.0)
        self._count()

    def _say(self, message: ToEngine) -> None:
        if self._writer is not None:
            self._writer.write(self._framing.frame(message))

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    @asynccontextmanager
    async def _process(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.subprocess.Process]]:
        """An engine process and its socket; at the end it is gone, one way or another."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *engine_command(self._start, descriptor=theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                env=environment(),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the HTTP process, which ends the engine in its own time.
            )
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=_CHUNK_BYTES)
        writer = self._writer
        try:
            yield reader, process
        finally:
            writer.close()
            await _gone(process)


def engine_command(start: EngineStart, *, descriptor: int) -> list[str]:
    """-P: a directory named `app` where the worker was started must not be taken for the package."""
    facts = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(start).items()}
    return [sys.executable, "-P", "-m", "app.worker.engine_process", str(descriptor), json.dumps(facts)]


def environment() -> dict[str, str]:
    """This process's, with the package where the child will find it."""
    home = str(Path(package.__file__ or "").parent.parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))}


async def _gone(process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(STOP_WITHIN_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def with_parent(start: EngineStart) -> EngineStart:
    """The same start, as this process's child."""
    return replace(start, parent=os.getpid())
