"""One request to a hot route, straight between uvicorn's connection and the route, without ASGI's messages.

It stands where uvicorn's `RequestResponseCycle` stands: the protocol feeds it the body, asks whether it is complete,
and starts it when its turn among pipelined requests has come. Framing, keep-alive and back-pressure are as there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.api.exchange import Exchange
from app.api.hot import Reader
from app.api.reply import Headers, Heads, HttpReply, lines_of
from app.domain.errors import CallerLeft
from app.ports import Opening

#: A caller that has stopped reading has so long to make room for the last bytes of its answer. Until then the route's
#: total time holds; after it nothing else would.
DRAIN_WITHIN_S = 30.0


class DirectApp(Protocol):
    """An application that has hot routes for whoever can do without ASGI."""

    @property
    def heads(self) -> Heads: ...

    @property
    def is_stopping(self) -> bool: ...

    def reader_of(self, target: bytes) -> Reader | None: ...

    async def serve(self, reader: Reader, exchange: Exchange) -> None: ...


class Connection(Protocol):
    """The connection that it came on: uvicorn's protocol, and who knows whether the caller has left."""

    logger: logging.Logger
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    flow: FlowControl
    headers: list[tuple[bytes, bytes]]
    departure: Departure
    drain_within_s: float

    def on_response_complete(self) -> None:
        """The answer is written: whatever comes next may begin."""
        ...

    def end(self, *, unread: bool) -> None:
        """The answer is written, and is the last one. `unread`: not all of the request was read."""
        ...


class Departure:
    """Whether the caller of a connection has left. One request is answered at a time, so the last watcher counts."""

    __slots__ = ("_left", "is_past")

    def __init__(self) -> None:
        self.is_past = False
        self._left: Callable[[], None] | None = None

    def watch(self, left: Callable[[], None] | None) -> None:
        """Call `left` once when the caller leaves, at once if it has; None: nobody is interested any more."""
        self._left = left
        if self.is_past and left is not None:
            left()

    def happened(self) -> None:
        """The connection is lost."""
        self.is_past = True
        if self._left is not None:
            self._left()


class DirectExchange(HttpReply):
    """The exchange and its reply in one."""

    __slots__ = (
        "_app",
        "_asks_to_continue",
        "_connection",
        "_reader",
        "_waiter",
        "body",
        "disconnected",
        "headers",
        "keep_alive",
        "more_body",
        "response_complete",
    )

    #: Gone once the exchange is over: the connection holds this exchange until the next one, and two that hold one
    #: another would be left to the cycle collector.
    _connection: Connection

    def __init__(
        self, connection: Connection, app: DirectApp, reader: Reader, *, keep_alive: bool, asks_to_continue: bool
    ) -> None:
        super().__init__()
        self._connection = connection
        self._app = app
        self._reader = reader
        self._asks_to_continue = asks_to_continue
        self._waiter: asyncio.Future[None] | None = None
        self.headers = connection.headers
        # What the protocol reads and sets:
        self.keep_alive = keep_alive
        self.body = b""
        self.more_body = True
        self.response_complete = False
        self.disconnected = False

    # ── for uvicorn's protocol ───────────────────────────────────────────────────────────────────────────────────────

    @property
    def message_event(self) -> DirectExchange:
        """What is set when the body grows, is complete, or the caller leaves."""
        return self

    def set(self) -> None:
        """See `message_event`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def run_asgi(self, app: object) -> None:
        """The task of this exchange. An answer that did not come to its end breaks the connection."""
        connection = self._connection
        try:
            await self._app.serve(self._reader, self)
        except BaseException as fault:  # whoever ends this task from outside is answered too
            connection.logger.error("a request was ended before its answer was", exc_info=fault)
        finally:
            if not (self.response_complete or self._is_gone()):
                self._give_up()
            del self._connection

    # ── the exchange ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def reply(self) -> DirectExchange:
        return self

    def at_hand(self) -> bytes | None:
        if self.more_body or self._asks_to_continue or self._is_gone():
            return None
        self._connection.flow.resume_reading()
        body, self.body = self.body, b""
        return body

    async def part(self) -> tuple[bytes, bool]:
        connection = self._connection
        if self._asks_to_continue and not connection.transport.is_closing():
            self._asks_to_continue = False
            connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.flow.resume_reading()
        while self.more_body and not self.body and not self._is_gone():
            self._waiter = connection.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._is_gone():
            raise CallerLeft("the caller left before its body was read")
        body, self.body = self.body, b""
        return body, self.more_body

    def listen(self) -> None:
        self._connection.departure.watch(self.caller_left)

    def stop_listening(self) -> None:
        self._connection.departure.watch(None)

    # ── the reply ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def whole(self, opening: Opening, body: bytes) -> None:
        await self._all_at_once(opening.status, self._app.heads.lines(opening), body)

    async def all_at_once(self, status: int, headers: Headers, body: bytes) -> None:
        if (b"connection", b"close") in headers:
            headers.remove((b"connection", b"close"))
            self.keep_alive = False
        await self._all_at_once(status, lines_of(headers), body)

    async def begin(self, opening: Opening) -> None:
        lines = self._app.heads.streamed_lines(opening)
        self.begun = True
        await self._last_out(self._head(opening.status, lines, b"transfer-encoding: chunked\r\n"))

    async def write(self, raw: bytes) -> None:
        if raw:
            await self._out(b"%x\r\n%b\r\n" % (len(raw), raw))

    async def end(self, raw: bytes = b"") -> None:
        await self._last_out(b"%x\r\n%b\r\n0\r\n\r\n" % (len(raw), raw) if raw else b"0\r\n\r\n")
        self._complete()

    async def _all_at_once(self, status: int, lines: bytes, body: bytes) -> None:
        self.begun = True
        await self._last_out(self._head(status, lines, b"content-length: %d\r\n" % len(body)) + body)
        self._complete()

    def _head(self, status: int, lines: bytes, framing: bytes) -> bytes:
        if self._app.is_stopping:
            self.keep_alive = False
        last = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        return b"".join((STATUS_LINE[status], lines, framing, last))

    async def _out(self, raw: bytes) -> None:
        """Writes, once a caller who reads slowly has read enough. To a caller who left it writes nothing."""
        self._asks_to_continue = False
        connection = self._connection
        if connection.flow.write_paused and not self._is_gone():
            await connection.flow.drain()
        if not connection.departure.is_past:
            connection.transport.write(raw)

    async def _last_out(self, raw: bytes) -> None:
        """The same where no leash bounds the wait: a caller who makes no room in time is hung up on."""
        self._asks_to_continue = False
        connection = self._connection
        if connection.flow.write_paused and not self._is_gone():
            try:
                async with asyncio.timeout(connection.drain_within_s):
                    await connection.flow.drain()
            except TimeoutError:
                connection.logger.warning(
                    "a caller has not read its answer for %g s: its connection is closed", connection.drain_within_s
                )
                connection.transport.abort()
                return
        if not connection.departure.is_past:
            connection.transport.write(raw)

    def _is_gone(self) -> bool:
        return self._connection.departure.is_past

    def _complete(self) -> None:
        if self._is_gone():
            return
        self.response_complete = True
        if self.keep_alive:
            self._connection.on_response_complete()
        else:
            self._connection.end(unread=self.more_body)

    def _give_up(self) -> None:
        """The task ended without an answer, or in the middle of one."""
        self.response_complete = True
        if not self.begun:
            body = b"Internal Server Error"
            lines = b"content-type: text/plain; charset=utf-8\r\n"
            self.keep_alive = False
            self._connection.transport.write(self._head(500, lines, b"content-length: %d\r\n" % len(body)) + body)
        self._connection.transport.close()
