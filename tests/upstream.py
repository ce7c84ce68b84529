"""A scripted target on a real socket: it answers as told, remembers what it heard, and knows what it would bill.

    async with ScriptedUpstream() as upstream:
        upstream.will(refusal(503), stream(words=("Hello", " there")))
        ...                                        # the first request is refused, the second one answered
        assert upstream.heard[1].bill == Bill(prompt=11, output=2)

An answer is a list of steps, and each request takes the next answer; `always` is for all that follow. What is a stream,
whole, refused, cut or garbage is made by the functions below; any other answer is written with the steps themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self, cast

import pytest

from tests.socket_queues import SocketQueues

PROMPT_TOKENS = 11
WORDS = ("Hello", " there")
MODEL = "m"
#: Given as usage: the upstream never reports any.
NO_USAGE: dict[str, object] = {}

Headers = Sequence[tuple[str, str]]


# ── the steps of an answer ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Bytes on the wire, in segments of these sizes with a breath after each (empty: in one). `tokens` were made."""

    raw: bytes
    tokens: int = 0
    segments: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Nothing happens for so long."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Until:
    """Nothing happens before a test sets this."""

    event: asyncio.Event


@dataclass(frozen=True, slots=True)
class Hang:
    """Nothing happens ever again; the connection stays open."""


@dataclass(frozen=True, slots=True)
class Finish:
    """FIN: the connection is closed in good order."""


@dataclass(frozen=True, slots=True)
class Reset:
    """RST: the connection is torn down, once the caller's process has read what was sent: a reset throws away the
    rest."""


Step = Send | Pause | Until | Hang | Finish | Reset
Answer = Sequence[Step]


# ── what it heard ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a seller would charge for one request."""

    prompt: int
    output: int


@dataclass(slots=True, kw_only=True)
class Heard:
    """One request, and what became of it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    #: Which connection it came on, counted from 1.
    connection: int
    #: Bytes of the answer that the caller's side has taken so far.
    sent_bytes: int = 0
    output_tokens: int = 0
    #: Of these, what the caller's process had certainly read when last looked at; None: nobody looks.
    read_tokens: int | None = None
    #: False: it was refused, so that nothing is billed.
    works: bool = True
    answered: bool = False
    #: When the caller's side ended the connection before the answer was through (the loop's clock); None: it did not.
    hung_up_at_s: float | None = None
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def json(self) -> dict[str, object]:
        """The body."""
        body = json.loads(self.body)
        assert isinstance(body, dict)
        return body

    @property
    def attempt_id(self) -> str:
        """The id by which the oracle and the books are joined."""
        return self.headers["x-breakeven-attempt"]

    @property
    def bill(self) -> Bill | None:
        """What would be charged: the prompt and all that was made; None for a refusal."""
        return Bill(prompt=PROMPT_TOKENS, output=self.output_tokens) if self.works else None

    @property
    def delivered_tokens(self) -> int:
        """What the caller cannot deny; where nobody looks, all that was made."""
        return self.output_tokens if self.read_tokens is None else self.read_tokens


Answering = Callable[[Heard], Answer]


async def stood_at(heard: Heard) -> int:
    """How much of an answer had been sent when its caller took no more."""
    async with asyncio.timeout(30):
        sent_bytes, looks = heard.sent_bytes, 0
        while looks < 20:
            await asyncio.sleep(0.01)
            looks = looks + 1 if heard.sent_bytes == sent_bytes else 0
            sent_bytes = heard.sent_bytes
    return sent_bytes


# ── the server ───────────────────────────────────────────────────────────────────────────────────────────────────────


class ScriptedUpstream:
    """An HTTP/1.1 server on 127.0.0.1, with TLS if it is given. Enter it in the test's loop; leaving it ends every
    connection, and entered again it is at the same port. With `queues` it looks, before every step of an answer, how
    much of it the caller's process has read."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, queues: SocketQueues | None = None) -> None:
        self._tls = tls
        self.queues = queues
        self.heard: list[Heard] = []
        self.connections = 0
        self.open_connections: set[_Connection] = set()
        self._answers: deque[Answer | Answering] = deque()
        self._always: Answer | Answering = stream()
        self._server: asyncio.Server | None = None
        self._something = asyncio.Event()
        self._port = 0
        self.url = ""

    def will(self, *answers: Answer | Answering) -> None:
        """The answers to the next requests, or functions that make them. Only a status of 200 is ever billed."""
        self._answers.extend(answers)

    def always(self, answer: Answer | Answering) -> None:
        """The answer to every request that has none of its own. At first: a short stream."""
        self._always = answer

    async def heard_one(self, count: int = 1, *, within_s: float = 10.0) -> Heard:
        """Wait until that many requests have come; the newest."""
        async with asyncio.timeout(within_s):
            while len(self.heard) < count:
                self._something.clear()
                await self._something.wait()
        return self.heard[-1]

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self._port, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """As if the process had been killed: connections break, the port is closed."""
        if self._server is None:
            return
        self._server.close()
        plays = [connection.end() for connection in list(self.open_connections)]
        await asyncio.gather(*[play for play in plays if play is not None], return_exceptions=True)
        while self.open_connections:
            await asyncio.sleep(0.001)
        self._server = None

    def answer_to(self, heard: Heard) -> Answer:
        """The next answer. Called by a connection when a request is whole."""
        chosen = self._answers.popleft() if self._answers else self._always
        answer = chosen(heard) if callable(chosen) else chosen
        heard.works = _accepts(answer)
        self.heard.append(heard)
        self._something.set()
        return answer


class _Connection(asyncio.Protocol):
    """One caller's connection: requests one after another, each with its answer."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self._upstream = upstream
        self._received = bytearray()
        self._play: asyncio.Task[None] | None = None
        self._heard: Heard | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._over = False
        self._number = 0
        #: Where what was sent of the answer ended, and the tokens up to there; in order.
        self._ends: deque[tuple[int, int]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=1)  # 0 means "always full" to TLS
        self._upstream.connections += 1
        self._number = self._upstream.connections
        self._upstream.open_connections.add(self)

    def data_received(self, received: bytes) -> None:
        self._received += received
        self._next()

    def eof_received(self) -> bool:
        self._caller_left()
        return False

    def connection_lost(self, fault: Exception | None) -> None:
        self._caller_left()
        self._may_write.set()
        self._upstream.open_connections.discard(self)

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def end(self) -> asyncio.Task[None] | None:
        """The server stops."""
        self._over = True
        if self._play is not None:
            self._play.cancel()
        self._transport.abort()
        return self._play

    def _caller_left(self) -> None:
        if self._heard is not None and not self._heard.answered and not self._over:
            self._heard.hung_up_at_s = asyncio.get_running_loop().time()
            self._heard.left.set()
        self._over = True
        if self._play is not None:
            self._play.cancel()

    def _next(self) -> None:
        if self._play is not None and not self._play.done():
            return
        head, blank, rest = bytes(self._received).partition(b"\r\n\r\n")
        if not blank:
            return
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): said.strip() for name, _, said in (line.partition(":") for line in lines[1:])}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        method, path, _ = lines[0].split(" ")
        self._received = bytearray(rest[length:])
        self._heard = Heard(method=method, path=path, headers=headers, body=rest[:length], connection=self._number)
        answer = self._upstream.answer_to(self._heard)
        self._play = asyncio.get_running_loop().create_task(self._perform(answer, self._heard))

    async def _perform(self, answer: Answer, heard: Heard) -> None:
        self._ends.clear()
        for step in answer:
            self._look(heard)
            match step:
                case Send():
                    await self._send(step, heard)
                case Pause():
                    await asyncio.sleep(step.seconds)
                case Until():
                    await step.event.wait()
                case Hang():
                    await asyncio.get_running_loop().create_future()
                case Finish():
                    self._over = True
                    self._transport.close()
                    return
                case Reset():
                    await self._is_read()
                    self._over = True
                    self._reset()
                    return
        heard.answered = True
        asyncio.get_running_loop().call_soon(self._next)

    async def _send(self, step: Send, heard: Heard) -> None:
        for segment in _cut(step.raw, step.segments):
            if self._transport.is_closing():  # a write would be dropped in silence; the end is told in a moment
                await asyncio.get_running_loop().create_future()
            self._transport.write(segment)
            await self._may_write.wait()
            heard.sent_bytes += len(segment)
            if step.segments:
                await asyncio.sleep(0.001)
        heard.output_tokens += step.tokens
        if self._upstream.queues is not None and step.tokens:
            self._ends.append((heard.sent_bytes, heard.output_tokens))

    def _look(self, heard: Heard) -> None:
        """How much of the answer the caller's process has read by now."""
        queues = self._upstream.queues
        if queues is None:
            return
        heard.read_tokens = heard.read_tokens or 0
        away = queues.on_the_way(self._transport.get_extra_info("socket")) if self._ends else None
        if away is None:
            return
        while self._ends and self._ends[0][0] <= heard.sent_bytes - away:
            _, heard.read_tokens = self._ends.popleft()

    async def _is_read(self) -> None:
        with SocketQueues() as queues:
            for _ in range(1000):  # some read nothing
                if not queues.on_the_way(self._transport.get_extra_info("socket")):
                    return
                await asyncio.sleep(0.002)

    def _reset(self) -> None:
        of_socket = self._transport.get_extra_info("socket")
        of_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """A fresh one for a test."""
    async with ScriptedUpstream() as fresh:
        yield fresh


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def head(status: int = 200, *, headers: Headers = ()) -> Send:
    """A status line and headers as they are; nothing is added but the blank line."""
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {said}" for name, said in headers)]
    return Send(raw=("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))


def stream_head(*, headers: Headers = ()) -> Send:
    """The head of a stream in chunks."""
    return head(headers=(("content-type", "text/event-stream"), ("transfer-encoding", "chunked"), *headers))


def part(raw: bytes, *, tokens: int = 0, segments: tuple[int, ...] = ()) -> Send:
    """One HTTP chunk."""
    return Send(raw=b"%x\r\n%b\r\n" % (len(raw), raw), tokens=tokens, segments=segments)


LAST_PART = Send(raw=b"0\r\n\r\n")


def event(said: object) -> bytes:
    """One server-sent event with this JSON, spelled as engines spell it."""
    return b"data: " + json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def chunk(word: str | None = None, *, finish: str | None = None, index: int = 0, **more: object) -> bytes:
    """The event of a chat with one word, with nothing (the role), or with a finish reason."""
    delta: dict[str, object] = {"role": "assistant", "content": ""} if word is None else {"content": word}
    choice = {"index": index, "delta": {} if word is None and finish else delta, "finish_reason": finish}
    return event({**_ENVELOPE, "choices": [choice], **more})


def usage_chunk(usage: object) -> bytes:
    """The event that comes for usage alone."""
    return event({**_ENVELOPE, "choices": [], "usage": usage})


def usage_of(output: int, *, cached: int = 0) -> dict[str, object]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": output,
        "total_tokens": PROMPT_TOKENS + output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def events_of(
    words: Sequence[str] = WORDS, *, finish: str | None = "stop", usage: object | None = None, done: bool = True
) -> list[tuple[bytes, int]]:
    """The events of a chat stream, each with the tokens it stands for. `usage` None: the true one."""
    events = [(chunk(), 0), *((chunk(word), 1) for word in words)]
    if finish is not None:
        events.append((chunk(finish=finish), 0))
    if usage is not NO_USAGE:
        events.append((usage_chunk(usage_of(len(words)) if usage is None else usage), 0))
    if done:
        events.append((DONE, 0))
    return events


def stream(
    words: Sequence[str] = WORDS,
    *,
    finish: str | None = "stop",
    usage: object | None = None,
    done: bool = True,
    pause_s: float = 0.0,
    first_s: float = 0.0,
    headers: Headers = (),
) -> list[Step]:
    """A chat stream, whole unless told otherwise. `first_s` passes before the first event, `pause_s` before others."""
    parts = [part(raw, tokens=tokens) for raw, tokens in events_of(words, finish=finish, usage=usage, done=done)]
    return [stream_head(headers=headers), *_paced(parts, first_s=first_s, pause_s=pause_s), LAST_PART]


def broken_stream(words: Sequence[str], ending: Step, *, finish: str | None = None, pause_s: float = 0.0) -> list[Step]:
    """A stream of these words that then goes wrong: `Finish()`, `Reset()`, `Hang()`, or garbage to send."""
    parts = [part(raw, tokens=tokens) for raw, tokens in events_of(words, finish=finish, usage=NO_USAGE, done=False)]
    return [stream_head(), *_paced(parts, first_s=0.0, pause_s=pause_s), ending]


def segmented(raw: bytes, sizes: tuple[int, ...]) -> list[Step]:
    """A stream of exactly these bytes, cut on the wire at will."""
    framed = part(raw)
    return [stream_head(), replace(framed, segments=sizes), LAST_PART]


def completion(text: str = "Hello there", *, usage: object | None = None, output: int = 2) -> bytes:
    """The JSON of a chat answer that is not streamed."""
    said: dict[str, object] = {
        **_ENVELOPE,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    }
    if usage is not NO_USAGE:
        said["usage"] = usage_of(output) if usage is None else usage
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()


def whole(
    body: bytes | None = None,
    *,
    tokens: int = 2,
    first_s: float = 0.0,
    headers: Headers = (),
    length: int | None = None,
) -> list[Step]:
    """An answer that is not streamed. `length` None: the true Content-Length."""
    sent = completion() if body is None else body
    size = len(sent) if length is None else length
    named = (("content-type", "application/json"), ("content-length", str(size)), *headers)
    return [Pause(seconds=first_s), head(headers=named), Send(raw=sent, tokens=tokens)]


def refusal(status: int, body: bytes | None = None, *, headers: Headers = ()) -> list[Step]:
    """An answer of another status, with OpenAI's error body unless another is given."""
    error = {"error": {"message": "as scripted", "type": "scripted", "param": None, "code": None}}
    sent = json.dumps(error).encode() if body is None else body
    named = (("content-type", "application/json"), ("content-length", str(len(sent))), *headers)
    return [head(status, headers=named), Send(raw=sent)]


@functools.cache
def unreachable_url() -> str:
    """A url on a port of 127.0.0.1 where nobody listens, nor ever can: it is held for as long as this process lives."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{held.getsockname()[1]}/v1"
    held.detach()
    return url


@contextlib.contextmanager
def full_queue() -> Iterator[str]:
    """The url of a port that lets nobody in: its accept queue is full, so that a connection to it hangs."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


_ENVELOPE: dict[str, object] = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}


def _paced(parts: Sequence[Send], *, first_s: float, pause_s: float) -> Iterator[Step]:
    for number, each in enumerate(parts):
        yield Pause(seconds=pause_s if number else first_s)
        yield each


def _cut(raw: bytes, sizes: tuple[int, ...]) -> Iterator[bytes]:
    """Segments of these sizes in turn; the sizes repeat."""
    if not sizes:
        yield raw
        return
    at, turn = 0, 0
    while at < len(raw):
        size = max(1, sizes[turn % len(sizes)])
        yield raw[at : at + size]
        at, turn = at + size, turn + 1


def _accepts(answer: Answer) -> bool:
    """True when the answer's head says 200: the work begins."""
    first = next((step for step in answer if isinstance(step, Send)), None)
    return first is None or b" 200 " in first.raw.partition(b"\r\n")[0]
