"""uvicorn's protocol on httptools, with two things that only a transport can give cheaply.

*One write.* uvicorn writes the head of an answer by itself. On a busy machine every write wakes the caller's process,
and waking it twice for one answer costs the gateway more than everything it computes for that head.

*Departure.* A task that waits on ASGI's `receive` for each request, only to learn that the caller left, costs a tenth
of a request. The connection knows by itself: the scope's extension `breakeven.departure` calls back when it is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.reply import DEPARTURE

_HEAD = b"HTTP/1.1 "
_INTERIM = b"HTTP/1.1 1"
_HEAD_END = b"\r\n\r\n"


class GatewayProtocol(HttpToolsProtocol):
    """One connection of the data plane or the console."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        joined = HeadWithBody(cast(asyncio.Transport, transport), self.loop)
        self._departure = Departure()
        super().connection_made(cast(asyncio.Transport, joined))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["extensions"] = {DEPARTURE: self._departure.watch}

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._departure.happened()


class Departure:
    """Whether the caller of a connection has left. One request is answered at a time, so the last watcher counts."""

    __slots__ = ("_gone", "_left")

    def __init__(self) -> None:
        self._gone = False
        self._left: Callable[[], None] | None = None

    def watch(self, left: Callable[[], None] | None) -> None:
        """Call `left` once when the caller leaves, at once if it has; None: nobody is interested any more."""
        self._left = left
        if self._gone and left is not None:
            left()

    def happened(self) -> None:
        """The connection is lost."""
        self._gone = True
        if self._left is not None:
            self._left()


class HeadWithBody:
    """A transport that keeps the head of an answer until the next write, or until the loop's next turn."""

    __slots__ = ("_head", "_loop", "_transport", "get_extra_info", "is_closing")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self.is_closing = transport.is_closing
        self.get_extra_info = transport.get_extra_info

    def write(self, raw: bytes) -> None:
        if self._head:
            raw, self._head = self._head + raw, b""
        elif raw.startswith(_HEAD) and raw.endswith(_HEAD_END) and not raw.startswith(_INTERIM):
            self._head = raw
            self._loop.call_soon(self._flush)
            return
        self._transport.write(raw)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)
