"""The engine's own process: a model, a scheduler, and a socket to the HTTP process.

`step()` holds the interpreter while it computes, so nothing else may live here. The process ends when the socket does,
and the kernel ends it when its parent is gone, so that no engine is ever left over.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

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
    Refused,
    Submit,
    ToEngine,
    engine_framing,
)
from app.worker.scheduler import EngineUnfit, Scheduler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.worker.messages import Sampling

_CHUNK_BYTES: Final = 1 << 20
_PR_SET_PDEATHSIG: Final = 1
_WORDS_MOST: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStart:
    """What the engine process is started with."""

    weights: Path
    context_tokens: int
    max_num_seqs: int
    threads: int
    cache_gb: int
    parent: int


def run_engine(connection: socket.socket, start: EngineStart) -> None:
    """The process's whole life. Never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with(start.parent)
    talk = _Talk(connection)
    try:
        _serve(talk, start)
    except (BrokenPipeError, ConnectionError, EOFError):
        os._exit(0)  # The HTTP process left; the engine's own clean-up would only take time.
    except BaseException as fault:  # Said to the other process, which logs it and starts another engine.
        talk.last_words(last_words(fault))
        os._exit(1)


def last_words(fault: BaseException) -> str:
    """What failed, on one line of bearable length: the engine's own faults are paragraphs with its source files."""
    said = " ".join(str(fault).split())
    if isinstance(fault, EngineUnfit):
        return said
    said = f"{type(fault).__name__}: {said}"
    return said if len(said) <= _WORDS_MOST else f"{said[: _WORDS_MOST // 2]} ... {said[-_WORDS_MOST // 2 :]}"


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends; for Linux. Elsewhere the socket's end does it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)


class Tokens(Protocol):
    """The part of the engine that reads and writes text."""

    text_tokens_most: int

    def encode(self, text: str, *, add_special_tokens: bool) -> Sequence[int]: ...

    def decode(self, tokens: Sequence[int]) -> str: ...

    def knows(self, tokens: Sequence[int]) -> bool: ...


class Desk:
    """Takes messages, one at a time, and returns what is to be replied at once."""

    def __init__(self, tokens: Tokens, scheduler: Scheduler, *, context_tokens: int) -> None:
        self._tokens = tokens
        self._scheduler = scheduler
        self._context_tokens = context_tokens

    def take(self, message: ToEngine) -> FromEngine | None:
        match message:
            case Submit():
                return self._submit(message)
            case Cancel():
                self._scheduler.cancel(message.request_id)
                return None
            case Encode():
                tokens = self._tokens.encode(message.text, add_special_tokens=message.add_special_tokens)
                whole = len(tokens) < self._tokens.text_tokens_most
                return Encoded(call_id=message.call_id, tokens=tuple(tokens), whole=whole)
            case Decode():
                text = self._tokens.decode(message.tokens) if self._tokens.knows(message.tokens) else None
                return Decoded(call_id=message.call_id, text=text)

    def _submit(self, message: Submit) -> Accepted | Refused:
        number, prompt = message.request_id, message.prompt
        cut = False
        if isinstance(prompt, str):
            prompt = tuple(self._tokens.encode(prompt, add_special_tokens=message.add_special_tokens))
            cut = len(prompt) >= self._tokens.text_tokens_most
        elif not self._tokens.knows(prompt):
            return Refused(request_id=number, why="unknown_token")
        if not prompt:
            return Refused(request_id=number, why="empty_prompt")
        room = self._context_tokens - len(prompt)
        asked = message.sampling.max_tokens
        if room < 1:
            return Refused(request_id=number, why="prompt_too_long", prompt_tokens=len(prompt), at_least=cut)
        wanted = max(asked or 0, message.sampling.min_tokens)
        if wanted > room:
            return Refused(request_id=number, why="answer_too_long", prompt_tokens=len(prompt), max_tokens=wanted)
        self._queue(number, prompt, message.sampling, max_tokens=asked or room)
        return Accepted(request_id=number, prompt_tokens=len(prompt))

    def _queue(self, number: int, prompt: tuple[int, ...], sampling: Sampling, *, max_tokens: int) -> None:
        self._scheduler.submit(number, prompt, sampling, max_tokens=max_tokens)


class _Talk:
    """The socket, in frames."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._framing = engine_framing()

    def say(self, message: FromEngine) -> None:
        self._connection.sendall(self._framing.frame(message))

    def last_words(self, said: str) -> None:
        try:
            self.say(Failed(said=said))
        except OSError:
            sys.stderr.write(f"the engine failed and nobody listens: {said}\n")

    def hear(self, *, wait: bool) -> list[ToEngine]:
        """All messages that are here; with `wait`, at least until something comes. Raises EOFError at the end."""
        messages: list[ToEngine] = []
        while select.select([self._connection], [], [], None if wait and not messages else 0)[0]:
            chunk = self._connection.recv(_CHUNK_BYTES)
            if not chunk:
                raise EOFError
            messages.extend(self._framing.feed(chunk))
        return messages


def _serve(talk: _Talk, start: EngineStart) -> None:
    talk.say(Loading(stage="loading OpenVINO", done=0.02))
    # The engine's libraries are imported in this process only, and only now: the HTTP process must stay small, and the
    # gateway's installation has none of them.
    from app.worker.openvino import EngineSettings, OpenVinoPipeline  # noqa: PLC0415

    talk.say(Loading(stage="compiling the model", done=0.1))
    pipeline = OpenVinoPipeline(
        EngineSettings(
            weights=start.weights,
            max_num_seqs=start.max_num_seqs,
            threads=start.threads,
            cache_gb=start.cache_gb,
        )
    )
    if start.context_tokens > pipeline.text_tokens_most:
        raise EngineUnfit(
            f"a context of {start.context_tokens} tokens was asked for and the model has {pipeline.text_tokens_most}: "
            "ask for no more than that"
        )
    account, ready = pipeline.warm_up(lambda stage, done: talk.say(Loading(stage=stage, done=done)))
    scheduler = Scheduler(
        pipeline, account, max_num_seqs=start.max_num_seqs, block_tokens=ready.block_tokens, clock=time.monotonic
    )
    desk = Desk(pipeline, scheduler, context_tokens=start.context_tokens)
    talk.say(ready)
    while True:
        for message in talk.hear(wait=not scheduler.has_work):
            reply = desk.take(message)
            if reply is not None:
                talk.say(reply)
        if scheduler.has_work:
            talk.say(scheduler.step())


def main(arguments: list[str]) -> None:
    """`descriptor` of the socket and what to start with, as JSON. Never returns."""
    descriptor, facts = arguments
    start = json.loads(facts)
    start["weights"] = Path(start["weights"])
    run_engine(socket.socket(fileno=int(descriptor)), EngineStart(**start))


if __name__ == "__main__":
    main(sys.argv[1:])
