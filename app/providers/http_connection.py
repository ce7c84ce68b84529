"""One HTTP/1.1 connection to a target: bytes and callbacks, one exchange at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, cast

import httptools

from app.ports.deadline import Deadline
from app.providers.exchange import HEAD_MOST_BYTES, LINGER_S, UNREAD_MOST_BYTES, HttpFault, HttpFaultKind

_SWITCHING_PROTOCOLS: Final = 101
_FIRST_FINAL_STATUS: Final = 200
_ENCODING: Final = b"transfer-encoding"


class Connection(asyncio.Protocol):
    """Sends a request, parses its answer, and is free again when the answer is at its end.

    `at_rest` is called when it may serve another request, `gone` once when it never will.
    """

    __slots__ = (
        "_at_rest",
        "_chunks",
        "_complete",
        "_deadline",
        "_fault",
        "_gone",
        "_has_length",
        "_headers",
        "_idle",
        "_interim",
        "_keeps_alive",
        "_linger",
        "_loop",
        "_parser",
        "_paused",
        "_silent_bytes",
        "_status",
        "_transport",
        "_unread_bytes",
        "_waiter",
        "rest_until_s",
    )

    # The exchange that is going on, or went on last.
    _status: int
    _headers: dict[bytes, bytes]
    _chunks: list[bytes]
    _unread_bytes: int
    _silent_bytes: int
    _interim: bool
    _has_length: bool
    _complete: bool
    _keeps_alive: bool
    _paused: bool
    _fault: HttpFault | None

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        at_rest: Callable[[Connection], None],
        gone: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._at_rest = at_rest
        self._gone = gone
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._deadline = Deadline(loop, self._late)
        self._linger: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._idle = True
        #: The loop's time until which the pool may use it again.
        self.rest_until_s = 0.0
        self._begin()

    # ── for the answer ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def usable(self) -> bool:
        """True while a request may be sent on it."""
        return self._idle and self._transport is not None and not self._transport.is_closing()

    def now_s(self) -> float:
        """The time of its loop. (Asking for the running loop costs a system call in CPython before 3.12.)"""
        return self._loop.time()

    @property
    def status(self) -> int:
        """Of the current answer; 0 before its head has come."""
        return self._status

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """Of the current answer: names in lower case, the first of each; a mapping of its own for each exchange."""
        return self._headers

    async def exchange(self, head: bytes, body: bytes) -> int:
        """Send a request and wait for the final status of its answer. Raises HttpFault; breaks when cancelled."""
        if self._transport is None or not self.usable:
            raise HttpFault(HttpFaultKind.REFUSED, "the connection was closed before anything was sent")
        self._begin()
        self._idle = False
        self._transport.write(head + body if len(body) < UNREAD_MOST_BYTES else head)
        if len(body) >= UNREAD_MOST_BYTES:
            self._transport.write(body)
        try:
            while self._status == 0:
                if self._fault is not None:
                    raise self._fault
                self._waiter = self._loop.create_future()
                await self._waiter
        except BaseException:
            self.abort()
            raise
        finally:
            self._waiter = None
        return self._status

    def expect_by(self, at_s: float | None) -> None:
        """See HttpAnswer."""
        self._deadline.move(at_s)

    async def read(self) -> bytes:
        """See HttpAnswer."""
        while not self._chunks:
            if self._complete:
                return b""
            if self._fault is not None:
                raise self._fault
            await self._wait()
        if len(self._chunks) == 1:
            unread = self._chunks.pop()
        else:
            unread = b"".join(self._chunks)
            self._chunks.clear()
        self._unread_bytes = 0
        if self._paused:
            self._paused = False
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()
        return unread

    def unread(self) -> bytes:
        """See HttpAnswer."""
        unread = b"".join(self._chunks)
        self._chunks.clear()
        return unread

    def close(self) -> None:
        """The answer is not wanted any more."""
        if self._complete:
            self._rest()
        else:
            self.abort()

    def finish(self) -> None:
        """The rest of the answer is not wanted, but its end is near."""
        if self._complete or self._fault is not None:
            self.close()
            return
        self._chunks.clear()
        self._unread_bytes = 0
        self._linger = self._loop.call_later(LINGER_S, self.abort)
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Break the connection now."""
        if self._transport is not None:
            self._transport.abort()
        self._break(HttpFaultKind.CUT, "the connection was given up")

    # ── for the transport ────────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, received: bytes) -> None:
        if self._idle:
            self.abort()
            return
        self._silent_bytes += len(received)
        try:
            self._parser.feed_data(received)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._garbled()
            return
        if self._silent_bytes > HEAD_MOST_BYTES and not self._complete:
            self._garbled()
        elif self._unread_bytes > UNREAD_MOST_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        elif self._complete and self._linger is not None:
            self._rest()

    def eof_received(self) -> bool:
        if not self._idle and self._status and not self._has_length and self._fault is None:
            self._complete = True
            self._wake()
        return False

    def connection_lost(self, fault: Exception | None) -> None:
        reset = isinstance(fault, ConnectionResetError)
        self._break(HttpFaultKind.CUT, "the connection was reset" if reset else "the connection ended too early")
        self._transport = None
        del self._parser  # it holds our bound methods: without this, only the collector would free the two
        self._gone(self)

    # ── for the parser ───────────────────────────────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        if self._complete:
            raise RuntimeError("an answer that nobody asked for")
        self._headers = {}

    def on_header(self, name: bytes, header: bytes | None) -> None:
        if self._status == 0:
            name, headers = name.lower(), self._headers
            if name not in headers:
                headers[name] = header or b""
            elif name == _ENCODING:
                headers[name] += b", " + (header or b"")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._interim = status < _FIRST_FINAL_STATUS
        if self._interim:
            if status == _SWITCHING_PROTOCOLS:
                raise RuntimeError("no other protocol was asked for")
            return
        headers = self._headers
        self._has_length = b"content-length" in headers or b"chunked" in headers.get(_ENCODING, b"").lower()
        self._status = status
        self._wake()

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        if self._linger is None:
            self._chunks.append(body)
            self._unread_bytes += len(body)
            self._wake()

    def on_message_complete(self) -> None:
        if self._interim:
            return
        self._keeps_alive = self._parser.should_keep_alive()  # true only here: the parser forgets it next
        self._complete = True
        self._wake()

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self) -> None:
        self._status = 0
        self._headers = {}
        self._chunks = []
        self._unread_bytes = 0
        self._silent_bytes = 0
        self._interim = False
        self._has_length = False
        self._complete = False
        self._keeps_alive = False
        self._paused = False
        self._fault = None

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _late(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._break(HttpFaultKind.LATE, "nothing came in time")
            self.abort()

    def _garbled(self) -> None:
        """What came cannot be parsed. An answer already complete stands; the connection serves no other."""
        if self._status == 0:
            self._break(HttpFaultKind.MALFORMED, "what came is not an HTTP/1.1 answer")
        else:
            self._break(HttpFaultKind.CUT, "the framing of the answer broke")
        self.abort()

    def _break(self, kind: HttpFaultKind, what: str) -> None:
        """The first fault stands."""
        self._stop_timers()
        if self._fault is None:
            self._fault = HttpFault(kind, what)
        self._wake()

    def _rest(self) -> None:
        self._stop_timers()
        unsent = self._transport is not None and self._transport.get_write_buffer_size() > 0
        if self._idle or self._fault is not None or self._transport is None:
            return
        if unsent or self._transport.is_closing() or not self._keeps_alive:
            self.abort()
            return
        if self._paused:
            self._transport.resume_reading()
        self._begin()
        self._idle = True
        self._at_rest(self)

    def _stop_timers(self) -> None:
        self._deadline.stop()
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
