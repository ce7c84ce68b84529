"""uvicorn's protocol on httptools, with four things that only a transport can give cheaply.

*The short way.* A request to a hot route goes straight to the route (`exchange.py`): no scope, no messages, no headers
written one by one. Everything else is ASGI as ever.

*One write.* uvicorn writes the head of an answer by itself. On a busy machine every write wakes the caller's process,
and waking it twice for one answer costs the gateway more than everything it computes for that head.

*Departure.* A task that waits on ASGI's `receive` for each request, only to learn that the caller left, costs a tenth
of a request. The connection knows by itself: the scope's extension `breakeven.departure` calls back when it is lost.

*One timer.* uvicorn sets and cancels a timer for every request, for a connection that nobody uses any more.
"""

from __future__ import annotations

import asyncio
import sys
from math import inf
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.api.exchange import DEPARTURE
from app.api.problems import RETRY_AFTER_LEAST_S
from app.api.wire.openai import error_body
from app.bootstrap.exchange import DRAIN_WITHIN_S, Departure, DirectApp, DirectExchange

#: The head of a request must have come whole after this long, counted from its first byte, or from the connection.
HEAD_WITHIN_S = 10.0
#: At a stop a head that is under way has this long.
LAST_HEAD_WITHIN_S = 1.0
#: More bytes than this are no head.
HEAD_MOST_BYTES = 64 * 1024

#: A connection that is closed while its caller sends is reset, and a reset overtakes the answer: what still comes is
#: dropped for so long first, and so much of it.
LAST_WORDS_S = 1.0
LAST_WORDS_BYTES = 8 * 1024 * 1024

_INVALID = "invalid_request_error"
_SERVER = "server_error"
_UNAVAILABLE = 503

_HEAD = b"HTTP/1.1 "
_INTERIM = b"HTTP/1.1 1"
_HEAD_END = b"\r\n\r\n"


class GatewayProtocol(HttpToolsProtocol):
    """One connection of the data plane or the console."""

    drain_within_s = DRAIN_WITHIN_S
    #: After its last answer a caller that is still sending is listened to for so long.
    last_words_s = LAST_WORDS_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        joined = HeadWithBody(cast(asyncio.Transport, transport), self.loop)
        self.departure = Departure()
        #: None: no request is hot.
        self._direct = cast(DirectApp, self.app) if hasattr(self.app, "reader_of") else None
        #: The loop's time since when no request is under way; None: one is.
        self._resting_since_s: float | None = None
        #: The loop's time by which the head that is under way must be here; infinity: none is.
        self._head_due_s = self.loop.time() + HEAD_WITHIN_S
        #: Of the head that is under way, but for what came in one read with its first byte.
        self._head_bytes = 0
        self._head_is_new = False
        #: Turned away while an answer is under way: nothing more is read, and the connection ends with that answer.
        self._is_deaf = False
        #: What the request is told that broke off while others were answered before it.
        self._refusal: bytes | None = None
        #: So much more is dropped before the connection ends at once.
        self._last_words_bytes: float = inf
        super().connection_made(cast(asyncio.Transport, joined))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
        self.departure.happened()

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            self._last_words_bytes -= len(data)
            if self._last_words_bytes < 0:
                self.transport.close()
            return
        self._head_is_new = False
        super().data_received(data)
        if self._head_due_s != inf and not self._head_is_new:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_MOST_BYTES:
                self._turn_away(431, "the head of the request is over 64 KiB: send fewer or shorter headers")

    def end(self, *, unread: bool) -> None:
        """The last answer of this connection is written. `unread`: its caller may still be sending."""
        if not unread or not self.last_words_s or self.transport.is_closing():
            self.transport.close()
            return
        self._is_deaf = True
        self._last_words_bytes = LAST_WORDS_BYTES
        self.flow.resume_reading()
        self.transport.write_eof()
        self.loop.call_later(self.last_words_s, self.transport.close)

    def end_if_late(self, *, now_s: float) -> None:
        """Look whether a head has been due for a while."""
        if now_s >= self._head_due_s:
            self._turn_away(408, f"the head of the request did not come within {HEAD_WITHIN_S:.0f} s: send it faster")

    def shutdown(self) -> None:
        """The process stops. Whoever has just connected, or has begun a head, gets a moment for its request: its
        connection was accepted, so nobody else will answer it."""
        if self._head_due_s != inf and not self.transport.is_closing():
            self.loop.call_later(LAST_HEAD_WITHIN_S, super().shutdown)
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """The parser stopped: what came is no HTTP, or one of our callbacks failed. uvicorn says 400 to either, in the
        middle of an answer too."""
        fault = sys.exception()
        cause = None if fault is None else fault.__context__
        if isinstance(cause, MemoryError):
            self.logger.error("no memory is left for what a caller sends: it is told 503")
            why = "this gateway process has no memory left for the request: try again"
            self._turn_away(_UNAVAILABLE, why, kind=_SERVER)
        elif cause is None or isinstance(cause, (httptools.HttpParserError, UnicodeError)):
            self._turn_away(400, "what came is no HTTP/1.1 request: see what sends it, and what lies between")
        else:
            self.logger.error("a request could not be begun", exc_info=cause)
            self._turn_away(500, "the gateway failed to begin this request; its log says why", kind=_SERVER)

    def _turn_away(self, status: int, why: str, *, kind: str = _INVALID) -> None:
        """Whoever's request cannot be read to its end gets this in place of an answer; where others are answered on
        this connection, after them or not at all. Then the connection ends."""
        self._head_due_s = inf
        if self.transport.is_closing():
            return
        body = error_body(message=why, kind=kind, param=None, code=None)
        again = b"retry-after: %d\r\n" % RETRY_AFTER_LEAST_S if status == _UNAVAILABLE else b""
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n%b\r\n"
        refusal = STATUS_LINE[status] + head % (len(body), again) + body
        cycle = cast(Any, self.cycle)
        if cycle is None or cycle.response_complete:
            self._say_last(refusal)
        elif self.pipeline and cycle.more_body:
            self.pipeline.popleft()
            self._refusal, self._is_deaf = refusal, True
        elif not cycle.more_body or _has_begun(cycle):
            self._is_deaf = True
            cycle.keep_alive = False
        else:
            self.departure.happened()
            cycle.disconnected = True
            cycle.message_event.set()
            self._say_last(refusal)

    def _say_last(self, refusal: bytes) -> None:
        self.transport.write(refusal)
        self.end(unread=True)

    # ── for the parser ───────────────────────────────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        self._head_due_s = self.loop.time() + HEAD_WITHIN_S
        self._head_bytes = 0
        self._head_is_new = True
        self._resting_since_s = None
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        self._head_due_s = inf
        app, parser = self._direct, self.parser
        reader = None if app is None else app.reader_of(self.url)
        if app is None or reader is None or parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
            self._begin_cycle()
            return
        before = self.cycle
        exchange = DirectExchange(
            self, app, reader, keep_alive=parser.should_keep_alive(), asks_to_continue=self.expect_100_continue
        )
        self.cycle = cast(Any, exchange)
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _begin_cycle(self) -> None:
        """uvicorn makes the scope when a message begins; here that waits until it is known that one is needed."""
        url, headers, expected = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expected
        cast(dict[str, Any], self.scope).update(headers=headers, extensions={DEPARTURE: self.departure.watch})
        super().on_headers_complete()

    # ── between requests ─────────────────────────────────────────────────────────────────────────────────────────────

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        if self._refusal is not None:
            self._say_last(self._refusal)
            return
        if self._head_due_s != inf:
            return  # the next request has begun, and has its own deadline
        self._resting_since_s = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _unset_keepalive_if_required(self) -> None:
        """uvicorn says so when anything comes. Here only a request that begins ends the rest: empty lines, or what is
        left of a body that was answered already, would keep a connection for ever."""

    def timeout_keep_alive_handler(self) -> None:
        """The one timer rang: the connection has rested for so long, or is looked at again when it may have."""
        self.timeout_keep_alive_task = None
        if self._resting_since_s is None:
            return
        left_s = self._resting_since_s + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._ring_in(left_s)
        else:
            super().timeout_keep_alive_handler()

    def _ring_in(self, delay_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(delay_s, self.timeout_keep_alive_handler)


def _has_begun(cycle: Any) -> bool:
    """Whether something of its answer was sent."""
    return bool(cycle.begun if isinstance(cycle, DirectExchange) else cycle.response_started)


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

    def write_eof(self) -> None:
        self._flush()
        self._transport.write_eof()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)
