"""ports.Reply over ASGI: the line back to the caller, and the watch over whether it is still there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from starlette.types import Receive, Send

from app.api.rates import rate_headers
from app.domain.money import shown
from app.ports import Opening

Headers = list[tuple[bytes, bytes]]

#: A server that can say cheaply when the caller has left puts a function under this name into the scope's extensions:
#: it takes what to call then, or None.
DEPARTURE = "breakeven.departure"

_JSON = b"application/json"


class AsgiReply:
    """One answer on one ASGI connection.

    uvicorn's `send` says nothing when the caller has gone, so somebody else must call `caller_left`.
    """

    __slots__ = ("_hung_up", "_send", "begun", "left")

    def __init__(self, send: Send) -> None:
        self._send = send
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

    async def watch(self, receive: Receive) -> None:
        """Where the server gives no `DEPARTURE`: returns when the caller has hung up. Cancel it when the answer is
        over."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.caller_left()

    async def whole(self, opening: Opening, body: bytes) -> None:
        headers = _headers(opening)
        headers.append((b"content-length", b"%d" % len(body)))
        await self._start(opening.status, headers)
        await self._send({"type": "http.response.body", "body": body})

    async def begin(self, opening: Opening) -> None:
        headers = _headers(opening)
        headers.append((b"cache-control", b"no-cache"))
        headers.append((b"x-accel-buffering", b"no"))
        await self._start(opening.status, headers)

    async def write(self, raw: bytes) -> None:
        await self._send({"type": "http.response.body", "body": raw, "more_body": True})

    async def end(self, raw: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": raw})

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
        headers: Headers = [
            (b"content-type", _JSON),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
            *more,
        ]
        if retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % retry_after_s))
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if close:
            headers.append((b"connection", b"close"))
        await self._start(status, headers)
        await self._send({"type": "http.response.body", "body": body})

    async def _start(self, status: int, headers: Headers) -> None:
        self.begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})


def _headers(opening: Opening) -> Headers:
    headers: Headers = [
        (b"content-type", opening.content_type.encode()),
        (b"x-request-id", opening.request_id.encode()),
        (b"x-breakeven-target", opening.target.encode()),
        (b"x-breakeven-hosting", opening.hosting.encode()),
        (b"x-breakeven-rule", _one_line(opening.rule)),
        (b"x-breakeven-policy", opening.policy_digest.encode()),
        (b"x-breakeven-attempts", b"%d" % opening.attempts),
    ]
    if opening.rates:
        headers.extend(rate_headers(opening.rates))
    if opening.charge is not None:
        headers.append((b"x-breakeven-charge-usd", shown(opening.charge).encode()))
    return headers


def _one_line(text: str) -> bytes:
    """A rule's name as a header value: printable ASCII; anything else becomes `?`."""
    return bytes(byte if 32 <= byte < 127 else 63 for byte in text.encode("ascii", "replace"))
