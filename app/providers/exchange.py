"""The port of HTTP: one request, one answer, read as it comes.

What every implementation promises, and `tests/ports/http_suite.py` holds it to: connections are kept and used again;
nothing is added to a request and nothing is taken from an answer (no cookies, no proxies from the environment, no
redirects followed, no decompression); a certificate is always verified; a reader that is slow stops the sender;
whoever cancels or closes breaks the connection at once. How many requests run at once is not limited here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Protocol

#: Bytes of an answer that may lie unread before the sender is made to wait.
UNREAD_MOST_BYTES: Final = 64 * 1024
#: Bytes of a head, of interim answers or of trailers: everything that is not body.
HEAD_MOST_BYTES: Final = 64 * 1024
#: How long an answer whose last event was read may take to end, so that its connection can be kept.
LINGER_S: Final = 1.0


class HttpFaultKind(StrEnum):
    """What stood between a request and the end of its answer."""

    UNRESOLVED = "unresolved"
    REFUSED = "refused"
    UNTRUSTED = "untrusted"
    CONNECT_TIMEOUT = "connect_timeout"
    #: The connection ended, or its framing broke, before the answer was whole.
    CUT = "cut"
    #: What came was not an HTTP/1.1 answer.
    MALFORMED = "malformed"
    #: Nothing came by the moment given to `expect_by`.
    LATE = "late"


class HttpFault(Exception):
    """An exchange that failed. The message is half a sentence, without any address or secret."""

    def __init__(self, kind: HttpFaultKind, what: str) -> None:
        super().__init__(what)
        self.kind = kind


class HttpAnswer(Protocol):
    """An answer whose head has come. Closed, or finished, exactly once; a second time changes nothing."""

    @property
    def status(self) -> int: ...

    def header(self, name: str) -> str | None:
        """The first header of this name, which is given in lower case."""
        ...

    def expect_by(self, at_s: float | None) -> None:
        """A `read` that waits at this moment of the loop's clock raises LATE; None: it may wait for ever."""
        ...

    async def read(self) -> bytes:
        """The next bytes of the body, as they came; empty at its end and only there. Raises HttpFault.

        Bytes that came before a fault are given before it."""
        ...

    def unread(self) -> bytes:
        """What has come of the body and was not read, for whoever leaves before its end. Waits for nothing."""
        ...

    def finish(self) -> None:
        """All that matters was read: the connection is kept if the body ends within LINGER_S, and broken otherwise."""
        ...

    def close(self) -> None:
        """Keeps the connection if the answer is at its end, breaks it at once otherwise."""
        ...


class Destination(Protocol):
    """A place to ask, with what all requests to it have in common."""

    async def post(
        self, body: bytes, *, headers: Mapping[str, str], connect_s: float, unread: bytearray | None = None
    ) -> HttpAnswer:
        """Send one request and wait for the head of its answer. Raises HttpFault; sends nothing a second time.

        Cancelling it breaks the connection; what had come by then of the body of an answer with status 200 goes into
        `unread`. `connect_s` bounds name, connection and handshake together."""
        ...

    async def get(self, *, connect_s: float) -> HttpAnswer:
        """The same without a body."""
        ...


class HttpClient(Protocol):
    """Holds the connections of one process."""

    def destination(self, url: str, *, headers: Mapping[str, str]) -> Destination:
        """A destination whose requests all carry these headers. Opens nothing. Raises HttpFault for a url or a
        header that cannot be sent."""
        ...

    async def close(self) -> None:
        """Breaks every connection, those in use too."""
        ...
