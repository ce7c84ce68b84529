"""ports.Reply in HTTP's words: the line back to the caller."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from starlette.types import Send

from app.api.rates import rate_headers
from app.domain.money import shown
from app.domain.target import Hosting
from app.ports import Opening

Headers = list[tuple[bytes, bytes]]

#: Heads remembered; a policy has a few rules and targets, and content types are few.
MOST_HEADS: Final = 1024
#: What breaks a header's line, or is refused by strict readers.
UNSAFE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

#: Names the request that came under the same idempotency key before, and was interrupted with its process.
INTERRUPTED: Final = b"x-breakeven-interrupted-request"
_JSON: Final = b"application/json"


class HttpReply:
    """One answer on one connection, whatever server is below it.

    No server's way out says that the caller has gone, so somebody must call `caller_left`.
    """

    __slots__ = ("_hung_up", "begun", "left")

    def __init__(self) -> None:
        self._hung_up: Callable[[], None] | None = None
        self.left = False
        self.begun = False

    def on_leave(self, hung_up: Callable[[], None]) -> None:
        self._hung_up = hung_up
        if self.left:
            hung_up()

    def caller_left(self) -> None:
        """The caller has hung up."""
        self.left = True
        if self._hung_up is not None:
            self._hung_up()

    async def whole(self, opening: Opening, body: bytes) -> None:
        await self.all_at_once(opening.status, headers_of(opening), body)

    async def problem(
        self,
        *,
        status: int,
        body: bytes,
        request_id: str,
        retry_after_s: int | None,
        close: bool = False,
        more: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """An error before anything was sent; `more` are headers of its own. `close` ends the connection too, when its
        body was not read."""
        headers: Headers = [(b"content-type", _JSON), (b"x-request-id", request_id.encode()), *more]
        if retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % retry_after_s))
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if close:
            headers.append((b"connection", b"close"))
        await self.all_at_once(status, headers, body)

    async def all_at_once(self, status: int, headers: Headers, body: bytes) -> None:
        """Head and whole body; the length is added."""
        raise NotImplementedError

    async def begin(self, opening: Opening) -> None:
        raise NotImplementedError

    async def write(self, raw: bytes) -> None:
        raise NotImplementedError

    async def end(self, raw: bytes = b"") -> None:
        raise NotImplementedError


class AsgiReply(HttpReply):
    """The same over ASGI's `send`."""

    __slots__ = ("_send",)

    def __init__(self, send: Send) -> None:
        super().__init__()
        self._send = send

    async def all_at_once(self, status: int, headers: Headers, body: bytes) -> None:
        await self._start(status, [*headers, (b"content-length", b"%d" % len(body))])
        await self._send({"type": "http.response.body", "body": body})

    async def begin(self, opening: Opening) -> None:
        await self._start(opening.status, [*headers_of(opening), *_STREAMED])

    async def write(self, raw: bytes) -> None:
        await self._send({"type": "http.response.body", "body": raw, "more_body": True})

    async def end(self, raw: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": raw})

    async def _start(self, status: int, headers: Headers) -> None:
        self.begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})


class Heads:
    """Headers of answers as lines of bytes. What is the same for all answers of a rule's target is spelled once."""

    __slots__ = ("_spelled",)

    def __init__(self) -> None:
        self._spelled: dict[tuple[object, ...], bytes] = {}

    def lines(self, opening: Opening) -> bytes:
        """The headers of this answer, each with its line's end; its length or encoding is not among them."""
        is_ours = opening.hosting is Hosting.SELF_HOSTED
        key = (opening.policy_digest, opening.rule, opening.target, is_ours, opening.attempts, opening.content_type)
        fixed = self._spelled.get(key)
        if fixed is None:
            if len(self._spelled) >= MOST_HEADS:
                self._spelled.clear()
            fixed = self._spelled[key] = lines_of(_fixed(opening))
        if opening.rates or opening.interrupted is not None:
            return fixed + lines_of(_varying(opening))
        # What most answers have besides, spelled as `_varying` would: these two cannot be anything but one line.
        if opening.charge is None:
            return b"%bx-request-id: %b\r\n" % (fixed, opening.request_id.encode())
        request_id, charge = opening.request_id.encode(), shown(opening.charge).encode()
        return b"%bx-request-id: %b\r\nx-breakeven-charge-usd: %b\r\n" % (fixed, request_id, charge)

    def streamed_lines(self, opening: Opening) -> bytes:
        """The same of an answer that is streamed."""
        return self.lines(opening) + lines_of(_STREAMED)


def headers_of(opening: Opening) -> Headers:
    """All headers of this answer, but its length or encoding."""
    return [*_fixed(opening), *_varying(opening)]


def lines_of(headers: Headers) -> bytes:
    """As they go out. Raises ValueError for a value that would not be one line."""
    for name, value in headers:
        if UNSAFE.search(value):
            raise ValueError(f"the header {name.decode()} would hold a control character: {value!r}")
    return b"".join([b"%b: %b\r\n" % header for header in headers])


#: Besides the others, of a stream: nobody may keep it, or hold it back.
_STREAMED: Final[Headers] = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


def _fixed(opening: Opening) -> Headers:
    return [
        (b"content-type", opening.content_type.encode()),
        (b"x-breakeven-target", opening.target.encode()),
        (b"x-breakeven-hosting", opening.hosting.encode()),
        (b"x-breakeven-rule", one_line(opening.rule)),
        (b"x-breakeven-policy", opening.policy_digest.encode()),
        (b"x-breakeven-attempts", b"%d" % opening.attempts),
    ]


def _varying(opening: Opening) -> Headers:
    headers: Headers = [(b"x-request-id", opening.request_id.encode())]
    if opening.rates:
        headers.extend(rate_headers(opening.rates))
    if opening.charge is not None:
        headers.append((b"x-breakeven-charge-usd", shown(opening.charge).encode()))
    if opening.interrupted is not None:
        headers.append((INTERRUPTED, opening.interrupted.encode()))
    return headers


def one_line(text: str) -> bytes:
    """A rule's name as a header value: printable ASCII; anything else becomes `?`."""
    return bytes(byte if 32 <= byte < 127 else 63 for byte in text.encode("ascii", "replace"))
