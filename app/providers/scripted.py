"""A provider that answers from a script, for tests and demonstrations. It opens no socket; time is passed in.

It keeps an oracle: what each attempt really did and what a seller would bill for it, to compare the books with.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from app.domain.errors import CALLERS_FAULT, MAY_HAVE_WORKED, FaultKind, TargetFailure
from app.domain.routing.facts import Endpoint
from app.domain.usage import Usage
from app.ports import Piece, UpstreamAnswer, UpstreamCall
from app.providers.faults import Blame
from app.providers.openai_stream import PieceReader

Sleep = Callable[[float], Awaitable[None]]

_CREATED: Final = 1_795_435_200
_STATUSES: Final = {
    FaultKind.BAD_REQUEST: 400,
    FaultKind.CONTEXT_OVERFLOW: 400,
    FaultKind.AUTH: 401,
    FaultKind.MONEY_GONE: 429,
    FaultKind.NOT_FOUND: 404,
    FaultKind.RATE_LIMITED: 429,
    FaultKind.SERVER_ERROR: 500,
    FaultKind.OVERLOADED: 503,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a target does with one attempt. Each word is one event with content, and one output token."""

    words: tuple[str, ...] = ("Hello", " there")
    prompt_tokens: int = 11
    cached_tokens: int = 0
    #: False: usage is never reported, though it was asked for.
    reports_usage: bool = True
    #: False: the stream closes after its finish reason, without `[DONE]`.
    says_done: bool = True
    #: Seconds before the first word, and before each word after it.
    first_s: float = 0.0
    between_s: float = 0.0
    #: How it fails, and after how many words; 0 words: instead of answering.
    fault: FaultKind | None = None
    fault_after: int = 0
    retry_after_s: float | None = None


@dataclass(slots=True, kw_only=True)
class Deed:
    """The oracle's line about one attempt: what was made, and whether a seller would bill for it."""

    attempt_id: str
    target: str
    prompt_tokens: int
    output_tokens: int = 0
    #: The target began to work: from here on it bills the prompt and what it made.
    worked: bool = False
    #: The answer was made to its end.
    complete: bool = False
    #: It was cancelled, or closed before its end.
    hung_up: bool = False

    @property
    def billed(self) -> Usage | None:
        """What a seller would bill; None: nothing."""
        return Usage(prompt=self.prompt_tokens, output=self.output_tokens) if self.worked else None


class ScriptedProvider:
    """The Provider port over scripts: each target's own, in order, the last one for all later attempts."""

    def __init__(self, scripts: Mapping[str, Sequence[Script]], *, sleep: Sleep) -> None:
        self._scripts = {target: deque(each) for target, each in scripts.items()}
        self._sleep = sleep
        self.deeds: list[Deed] = []
        self.calls: list[UpstreamCall] = []

    def play(self, target: str, *scripts: Script) -> None:
        """More scripts for a target, after those it has."""
        self._scripts.setdefault(target, deque()).extend(scripts)

    async def open(self, call: UpstreamCall) -> UpstreamAnswer:
        scripts = self._scripts[call.target.name]
        script = scripts.popleft() if len(scripts) > 1 else scripts[0]
        deed = Deed(attempt_id=call.attempt_id, target=call.target.name, prompt_tokens=script.prompt_tokens)
        self.calls.append(call)
        self.deeds.append(deed)
        play = _Play(script=script, call=call, deed=deed, sleep=self._sleep, blame=Blame(target=call.target.name))
        try:
            if not call.stream:
                await play.start()
                return ScriptedWhole(play)
            stream = ScriptedStream(play)
            await stream.begin()
        except asyncio.CancelledError:
            deed.hung_up = True
            raise
        return stream


@dataclass(slots=True, kw_only=True)
class _Play:
    """One attempt as it goes on."""

    script: Script
    call: UpstreamCall
    deed: Deed
    sleep: Sleep
    blame: Blame

    async def start(self) -> None:
        """The work begins, or is refused."""
        script = self.script
        if script.fault is not None and script.fault_after == 0:
            self.deed.worked = script.fault in MAY_HAVE_WORKED
            raise self.failure()
        self.deed.worked = True
        if self.call.stream:
            most_s = self.call.timeouts.first_token_s
            await self.wait(script.first_s, at_most_s=most_s, kind=FaultKind.FIRST_TOKEN_TIMEOUT)
        else:
            await self.sleep(script.first_s)

    async def wait(self, pause_s: float, *, at_most_s: float, kind: FaultKind) -> None:
        """A pause of the script, ended by the call's own time-out where that is shorter."""
        if pause_s < at_most_s:
            await self.sleep(pause_s)
            return
        await self.sleep(at_most_s)
        self.deed.hung_up = True
        raise self.blame.failure(kind, f"said nothing for {at_most_s:g} s")

    def failure(self) -> TargetFailure:
        """The fault that the script asks for, spelled as a target would."""
        kind = self.script.fault
        assert kind is not None, "only a script with a fault fails"
        body = {"error": {"message": f"as scripted: {kind.value}", "type": kind.value, "param": None, "code": None}}
        return self.blame.failure(
            kind,
            "failed as scripted",
            status=_STATUSES.get(kind),
            body=msgspec.json.encode(body) if kind in CALLERS_FAULT else None,
            retry_after_s=self.script.retry_after_s,
        )

    def usage(self) -> dict[str, object]:
        """OpenAI's usage object for what was made."""
        script = self.script
        return {
            "prompt_tokens": script.prompt_tokens,
            "completion_tokens": len(script.words),
            "total_tokens": script.prompt_tokens + len(script.words),
            "prompt_tokens_details": {"cached_tokens": script.cached_tokens},
        }

    def object(self, *, chunk: bool, choices: list[dict[str, object]]) -> dict[str, object]:
        """The envelope of an answer or of a chunk."""
        chat = self.call.endpoint is Endpoint.CHAT
        kind = "chat.completion" if chat else "text_completion"
        return {
            "id": f"scripted-{self.call.attempt_id}",
            "object": f"{kind}.chunk" if chunk and chat else kind,
            "created": _CREATED,
            "model": self.call.target.model,
            "choices": choices,
        }


class ScriptedWhole:
    """The UpstreamAnswer port for an answer that is not streamed."""

    status = 200
    content_type = "application/json"

    def __init__(self, play: _Play) -> None:
        self._play = play
        self.provider_request_id = f"scripted-{play.call.attempt_id}"

    def pieces(self) -> AsyncIterator[Piece]:
        raise RuntimeError("this answer is not a stream; ask for its body")

    async def body(self) -> tuple[bytes, Usage | None]:
        play, script = self._play, self._play.script
        for number, _ in enumerate(script.words):
            if script.fault is not None and number == script.fault_after:
                raise play.failure()
            await play.sleep(script.between_s if number else 0.0)
            play.deed.output_tokens += 1
        if script.fault is not None:
            raise play.failure()
        play.deed.complete = True
        text = "".join(script.words)
        said = {"message": {"role": "assistant", "content": text}}
        choice = {"index": 0, **(said if play.call.endpoint is Endpoint.CHAT else {"text": text})}
        answer = play.object(chunk=False, choices=[{**choice, "finish_reason": "stop"}])
        usage = Usage(prompt=script.prompt_tokens, output=len(script.words), cached=script.cached_tokens)
        if not script.reports_usage:
            return msgspec.json.encode(answer), None
        return msgspec.json.encode({**answer, "usage": play.usage()}), usage

    def unread(self) -> Sequence[Piece]:
        return ()  # it comes in one piece, to whoever waits for it

    async def close(self) -> None:
        self._play.deed.hung_up = not self._play.deed.complete


class ScriptedStream:
    """The UpstreamAnswer port for a stream. Its events pass through the reader that real ones pass through."""

    status = 200
    content_type = "text/event-stream"

    def __init__(self, play: _Play) -> None:
        self._play = play
        self._reader = PieceReader(
            blame=play.blame, usage_wanted=play.call.usage_wanted, choices=1, telling=play.call.telling
        )
        self._ready: deque[Piece] = deque()
        self._word = 0
        self._over = False
        self.provider_request_id = f"scripted-{play.call.attempt_id}"

    async def begin(self) -> None:
        """Until the first word, or the end."""
        await self._play.start()
        self._feed(choices=[self._choice(None, finish=None)])
        while not self._reader.begun:
            await self._advance()
            if self._reader.failure is not None and not self._reader.begun:
                self._play.deed.hung_up = True
                raise self._reader.failure

    def pieces(self) -> AsyncIterator[Piece]:
        return self

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self

    async def __anext__(self) -> Piece:
        while not self._ready:
            if self._reader.failure is not None:
                raise self._reader.failure
            if self._over:
                raise StopAsyncIteration
            await self._advance()
        return self._ready.popleft()

    async def body(self) -> tuple[bytes, Usage | None]:
        raise RuntimeError("this answer is a stream; ask for its pieces")

    def unread(self) -> Sequence[Piece]:
        unread = list(self._ready)
        self._ready.clear()
        return unread

    async def close(self) -> None:
        self._play.deed.hung_up = not self._play.deed.complete

    async def _advance(self) -> None:
        """The next word, the fault, or the end."""
        play, script = self._play, self._play.script
        if script.fault is not None and self._word >= script.fault_after:
            raise play.failure()
        if self._word < len(script.words):
            if self._word:
                await play.wait(script.between_s, at_most_s=play.call.timeouts.idle_s, kind=FaultKind.IDLE_TIMEOUT)
            word = script.words[self._word]
            self._word += 1
            play.deed.output_tokens += 1
            self._feed(choices=[self._choice(word, finish=None)])
            return
        self._over = play.deed.complete = True
        self._feed(choices=[self._choice(None, finish="stop")])
        if script.reports_usage:
            self._feed(choices=[], usage=play.usage())
        if script.says_done:
            self._ready.extend(self._reader.feed(b"data: [DONE]\n\n"))

    def _choice(self, word: str | None, *, finish: str | None) -> dict[str, object]:
        if self._play.call.endpoint is Endpoint.CHAT:
            delta = {"role": "assistant"} if word is None and finish is None else {"content": word or ""}
            return {"index": 0, "delta": delta, "finish_reason": finish}
        return {"index": 0, "text": word or "", "finish_reason": finish}

    def _feed(self, *, choices: list[dict[str, object]], **more: object) -> None:
        event = {**self._play.object(chunk=True, choices=choices), **more}
        self._ready.extend(self._reader.feed(b"data: " + msgspec.json.encode(event) + b"\n\n"))
