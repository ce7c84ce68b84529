"""For tests only: a gateway that kills itself, as `kill -9` does, at a named point of a request's story.

`BREAKEVEN_CRASH_AT=after_settle:3` dies at the third passing of that point (`mid_stream` is passed by each
event with content, `after_commit` by each batch). The seams are laid once, when the process
is wired: unset, each gives back the very object that it was given, and no request meets a line of this file.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.bootstrap.serving import App
from app.domain.errors import SetupError
from app.domain.ledger.receipt import Receipt
from app.domain.money import Nanodollars
from app.domain.usage import Usage
from app.ports import Journal, LedgerBook, Piece, Provider, UpstreamAnswer, UpstreamCall
from app.providers.exchange import HttpClient
from app.providers.http import Place, PooledClient, http_client
from app.providers.http_connection import Connection

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

#: In the order in which a request passes them.
POINTS: Final = (
    "before_intent",
    "after_intent",
    "after_connect",
    "after_headers",
    "mid_stream",
    "after_last_byte",
    "after_settle",
    "after_commit",
    "after_done",
)
#: The last bytes of an answer leave the process within this time, in seconds.
_WRITTEN_WITHIN_S: Final = 0.1


def die() -> None:
    """`kill -9` of this process, by itself."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(slots=True)
class CrashPoint:
    """Counts the passings of its point and dies at the last one it was given."""

    point: str
    passings_left: int = 1
    die: Callable[[], None] = die

    def passed(self, point: str) -> bool:
        """One request is at this point now; True when it was the one to die at."""
        if point != self.point:
            return False
        self.passings_left -= 1
        return self.passings_left == 0

    def here(self, point: str) -> None:
        """The same, and it dies."""
        if self.passed(point):
            self.die()


def read_crash_point(said: str) -> CrashPoint:
    """`point` or `point:n`. Raises SetupError that names the points."""
    point, colon, passings = said.partition(":")
    is_count = passings.isascii() and passings.isdigit() and int(passings) > 0
    if point not in POINTS or (colon and not is_count):
        raise SetupError(
            f"BREAKEVEN_CRASH_AT={said}: it is for tests, and means one of {', '.join(POINTS)}, with `:n` behind it "
            "for the n-th passing; unset it on a gateway that is to serve"
        )
    return CrashPoint(point, int(passings) if colon else 1)


@dataclass(frozen=True, slots=True)
class Seams:
    """Where a process can be made to die. Without a point everything passes through as it is."""

    point: CrashPoint | None = None

    @classmethod
    def of(cls, crash_at: str | None) -> Seams:
        """As the setting says. Raises SetupError."""
        return cls(None if crash_at is None else read_crash_point(crash_at))

    def journal(self, journal: Journal) -> Journal:
        return journal if self.point is None else _Journal(journal, self.point)

    def client(self) -> HttpClient:
        return http_client() if self.point is None else _Client(self.point)

    def provider(self, provider: Provider) -> Provider:
        return provider if self.point is None else _Provider(provider, self.point)

    def book(self, book: LedgerBook) -> LedgerBook:
        return book if self.point is None else _Book(book, self.point)

    def app(self, app: App) -> App:
        """Only for the one point that lies in the way back: under the wrapper, hot routes are served over ASGI, and the
        other points are to be met on the way that serves."""
        return _Watched(app, self.point) if self.point is not None and self.point.point == "after_done" else app


class _Journal:
    def __init__(self, journal: Journal, point: CrashPoint) -> None:
        self._journal, self._point = journal, point

    def intend(self, receipt: Receipt) -> None:
        self._point.here("before_intent")
        self._journal.intend(receipt)
        self._point.here("after_intent")

    def checkpoint(self, *, request_id: str, output_tokens: int, charge: Nanodollars) -> None:
        self._journal.checkpoint(request_id=request_id, output_tokens=output_tokens, charge=charge)

    async def settle(self, receipt: Receipt) -> None:
        await self._journal.settle(receipt)
        self._point.here("after_settle")

    def settle_later(self, receipt: Receipt) -> None:
        self._journal.settle_later(receipt)

    @property
    def depth(self) -> int:
        return self._journal.depth


class _Client(PooledClient):
    def __init__(self, point: CrashPoint) -> None:
        super().__init__()
        self._point = point

    async def connection(self, place: Place, *, connect_s: float) -> Connection:
        connection = await super().connection(place, connect_s=connect_s)
        self._point.here("after_connect")
        return connection


class _Provider:
    def __init__(self, provider: Provider, point: CrashPoint) -> None:
        self._provider, self._point = provider, point

    async def open(self, call: UpstreamCall) -> UpstreamAnswer:
        answer = await self._provider.open(call)
        self._point.here("after_headers")
        return _Answer(answer, self._point)


class _Answer:
    def __init__(self, answer: UpstreamAnswer, point: CrashPoint) -> None:
        self._answer, self._point = answer, point

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def content_type(self) -> str:
        return self._answer.content_type

    @property
    def provider_request_id(self) -> str | None:
        return self._answer.provider_request_id

    async def pieces(self) -> AsyncIterator[Piece]:
        async for piece in self._answer.pieces():
            if piece.last:
                self._point.here("after_last_byte")
            yield piece
            for _ in range(piece.content_events):
                self._point.here("mid_stream")

    async def body(self) -> tuple[bytes, Usage | None]:
        whole = await self._answer.body()
        self._point.here("after_last_byte")
        return whole

    def unread(self) -> Sequence[Piece]:
        return self._answer.unread()

    async def close(self) -> None:
        await self._answer.close()


class _Book:
    def __init__(self, book: LedgerBook, point: CrashPoint) -> None:
        self._book, self._point = book, point

    async def book(self, receipts: Sequence[bytes]) -> int:
        inserted = await self._book.book(receipts)
        if inserted:
            self._point.here("after_commit")
        return inserted

    async def find(self, request_id: str, *, key_id: str | None = None) -> Receipt | None:
        return await self._book.find(request_id, key_id=key_id)

    async def latest(self, *, most: int, before: str | None = None) -> Sequence[Receipt]:
        return await self._book.latest(most=most, before=before)


class _Watched:
    """Dies a moment after the last bytes of an answered POST were given to the connection, so that they have left."""

    def __init__(self, app: App, point: CrashPoint) -> None:
        self._app, self._point = app, point

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        async def watched(message: Mapping[str, Any]) -> None:
            await send(message)
            is_end = message["type"] == "http.response.body" and not message.get("more_body")
            if is_end and scope["method"] == "POST" and self._point.passed("after_done"):
                asyncio.get_running_loop().call_later(_WRITTEN_WITHIN_S, self._point.die)

        await self._app(scope, receive, watched)
