"""The pages of one engine, beside its API: fetched with bounds, and without trust."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import quote, urlsplit

import msgspec

from app.domain.target import Target
from app.providers.exchange import Destination, HttpClient, HttpFault
from app.providers.faults import cleaned

#: A JSON page larger than this is not read to its end.
PAGE_MOST_BYTES: Final = 1024 * 1024

_OTHER_PORT: Final = re.compile(r":(\d{1,5})(/.*)?")
_API: Final = "/v1"


class PageFault(Exception):
    """A page that could not be read; the message is a sentence without its end, naming the page and no address."""

    def __init__(self, what: str, *, status: int | None = None) -> None:
        super().__init__(what)
        #: What it answered with; None: there was no answer.
        self.status = status


class EngineSite:
    """Where the pages of a target's engine are. Keeps prepared destinations; belongs to one client."""

    def __init__(self, http: HttpClient, target: Target, *, secret: str | None, connect_s: float) -> None:
        self._http = http
        self.target = target
        self.secret = secret
        self._connect_s = connect_s
        self._prepared: dict[str, Destination] = {}

    async def page(self, path: str) -> bytes:
        """What stands there. Raises PageFault for any status but 200."""
        parts: list[bytes] = []
        room = PAGE_MOST_BYTES

        def take(received: bytes) -> None:
            nonlocal room
            room -= len(received)
            if room < 0:
                raise PageFault(f"{path} has more than {PAGE_MOST_BYTES} bytes")
            parts.append(received)

        await self.stream(path, take)
        return b"".join(parts)

    async def json(self, path: str) -> object:
        """The same, read as JSON."""
        try:
            return msgspec.json.decode(await self.page(path))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            raise PageFault(f"{path} is not JSON", status=200) from fault

    async def stream(self, path: str, take: Callable[[bytes], None]) -> None:
        """Hand the page over as it comes. Raises PageFault, and what `take` raises. Cancelling it, or a fault, breaks
        the connection."""
        try:
            answer = await self._destination(path).get(connect_s=self._connect_s)
        except HttpFault as fault:
            raise PageFault(f"{path}: {fault}") from fault
        try:
            if answer.status != 200:
                raise PageFault(f"{path} answers {answer.status}", status=answer.status)
            answer.expect_by(None)
            while received := await answer.read():
                take(received)
        except HttpFault as fault:
            raise PageFault(f"{path}: {fault}") from fault
        finally:
            answer.close()

    def _destination(self, path: str) -> Destination:
        prepared = self._prepared.get(path)
        if prepared is None:
            headers = {"user-agent": "breakeven", "accept-encoding": "identity", "accept": "*/*"}
            url, is_elsewhere = page_url(self.target, path)
            if self.secret is not None and not is_elsewhere:
                headers["authorization"] = f"Bearer {self.secret}"
            prepared = self._prepared[path] = self._http.destination(url, headers=headers)
        return prepared


def page_url(target: Target, path: str) -> tuple[str, bool]:
    """The URL of a family's path at this target (what begins with `/v1` lies below the target's own url, whatever that
    ends with), and whether it is another server's: one at another port, which gets no credential."""
    path = path.replace("{model}", quote(target.model, safe=""))
    base = target.url.rstrip("/")
    other = _OTHER_PORT.fullmatch(path)
    if other is not None:
        parts = urlsplit(base)
        host = parts.hostname or ""
        authority = f"[{host}]" if ":" in host else host
        return f"{parts.scheme}://{authority}:{other[1]}{other[2] or '/'}", True
    if path.startswith(f"{_API}/"):
        return base + path.removeprefix(_API), False
    return base.removesuffix(_API) + path, False


def in_words(fault: PageFault, target: Target, *, secret: str | None) -> str:
    """What went wrong, for people: without anything that looks like a key."""
    return cleaned(str(fault).replace("{model}", target.model), secret=secret)
