"""Streams that have begun and then say nothing: many callers, and a target that waits until it is told to go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Self, cast

from tests.upstream import DONE, LAST_PART, chunk, part, stream_head, usage_chunk, usage_of

#: What callers ask with: 1.2 kB.
PROMPT = "word " * 240
#: Connections that are opened at once; the listener's queue is not endless.
AT_ONCE = 100
#: Addresses of this machine that callers come from: one has 28,000 ports.
SOURCES = [f"127.0.0.{last}" for last in range(2, 10)]
OPEN_WITHIN_S = 600.0

_BEGIN = stream_head().raw + part(chunk()).raw + part(chunk("Hello")).raw
_END = b"".join(
    each.raw for each in (part(chunk(finish="stop")), part(usage_chunk(usage_of(1))), part(DONE), LAST_PART)
)


class IdleTarget:
    """Begins every stream at once, and ends all of them when it is told to."""

    def __init__(self) -> None:
        self._open: set[_Served] = set()
        self._server: asyncio.Server | None = None
        self._rests = True
        self.url = ""

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Served(self), "127.0.0.1", 0, backlog=4096)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for each in list(self._open):
            each.transport.abort()

    @property
    def waiting(self) -> int:
        return sum(each.is_answering for each in self._open)

    def rest(self) -> None:
        """From now on streams begin and do not end."""
        self._rests = True

    async def go_on(self) -> None:
        """All that have begun end, some at a time; whatever comes ends at once."""
        self._rests = False
        for number, each in enumerate(list(self._open)):
            each.finish()
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)

    def opened(self, served: _Served) -> None:
        self._open.add(served)

    def lost(self, served: _Served) -> None:
        self._open.discard(served)

    def begins(self, served: _Served) -> None:
        if not self._rests:
            served.finish()


class _Served(asyncio.Protocol):
    """One connection of the gateway's."""

    def __init__(self, target: IdleTarget) -> None:
        self._target = target
        self._received = b""
        self.is_answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._target.opened(self)

    def connection_lost(self, fault: Exception | None) -> None:
        self._target.lost(self)

    def data_received(self, received: bytes) -> None:
        self._received += received
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return
        self._received = b""
        self.is_answering = True
        self.transport.write(_BEGIN)
        self._target.begins(self)

    def finish(self) -> None:
        if self.is_answering:
            self.is_answering = False
            self.transport.write(_END)


class Caller(asyncio.Protocol):
    """One stream, from its request to its end."""

    def __init__(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._request = request
        self._received = b""
        #: Its first words are here.
        self.begun: asyncio.Future[None] = loop.create_future()
        #: Over, for better or worse: see `is_whole`.
        self.over: asyncio.Future[None] = loop.create_future()
        self.is_whole = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, received: bytes) -> None:
        self._received += received
        if not self.begun.done() and (b"Hello" in self._received or not self._received.startswith(b"HTTP/1.1 200")):
            self.begun.set_result(None)
        if self._received.endswith(b"0\r\n\r\n"):
            self.is_whole = b"data: [DONE]\n\n" in self._received and b'"error"' not in self._received
            self._finish()

    def connection_lost(self, fault: Exception | None) -> None:
        self._finish()

    @property
    def is_alive(self) -> bool:
        return self._received.startswith(b"HTTP/1.1 200") and not self.over.done()

    def _finish(self) -> None:
        for each in (self.begun, self.over):
            if not each.done():
                each.set_result(None)


@dataclass(slots=True)
class Callers:
    """Everybody who waits at one gateway."""

    port: int
    key: str
    all: list[Caller] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    async def come(self, number: int) -> None:
        """So many more, each with the first words of its answer."""
        loop = asyncio.get_running_loop()
        request = _request(self.key)
        async with asyncio.timeout(OPEN_WITHIN_S):
            for begun in range(0, number, AT_ONCE):
                opened = await asyncio.gather(
                    *[
                        loop.create_connection(
                            lambda: Caller(request),
                            "127.0.0.1",
                            self.port,
                            local_addr=(SOURCES[next(self._numbers) % len(SOURCES)], 0),
                        )
                        for _ in range(min(AT_ONCE, number - begun))
                    ]
                )
                callers = [caller for _, caller in opened]
                self.all += callers
                await asyncio.gather(*[caller.begun for caller in callers])

    async def end(self) -> int:
        """Wait until everybody's answer is over and hang up; how many were whole."""
        async with asyncio.timeout(OPEN_WITHIN_S):
            await asyncio.gather(*[caller.over for caller in self.all])
        for caller in self.all:
            caller.transport.abort()
        return sum(caller.is_whole for caller in self.all)

    @property
    def alive(self) -> int:
        return sum(caller.is_alive for caller in self.all)


def _request(key: str) -> bytes:
    said = {"model": "chat", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 128, "stream": True}
    body = json.dumps(said, separators=(",", ":")).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: idle\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n"
    return head.format(key, len(body)).encode() + body
