"""The head of an answer and the first bytes of its body in one write, so that they are one packet and one wake-up.

uvicorn writes the head by itself. On a busy machine every write wakes the caller's process, and waking it twice for one
answer costs the gateway more than everything it computes for that answer's head.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD = b"HTTP/1.1 "
_INTERIM = b"HTTP/1.1 1"
_HEAD_END = b"\r\n\r\n"


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


class OneWriteProtocol(HttpToolsProtocol):
    """uvicorn's protocol on httptools, over such a transport."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        joined = HeadWithBody(cast(asyncio.Transport, transport), self.loop)
        super().connection_made(cast(asyncio.Transport, joined))
