"""The one HTTP client: plain HTTP/1.1 goes by `http11`, TLS by aiohttp, both behind the port in `exchange`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from app.providers.deadline import Deadline
from app.providers.exchange import (
    HEAD_MOST_BYTES,
    LINGER_S,
    UNREAD_MOST_BYTES,
    Destination,
    HttpAnswer,
    HttpClient,
    HttpFault,
    HttpFaultKind,
)
from app.providers.http11 import Http11Client

#: Hosted services keep idle connections for minutes; a handshake saved is worth more than the race with their end.
KEEP_IDLE_S: Final = 15.0
#: Answers of one name server are believed this long.
NAMES_KEPT_S: Final = 10
_HEADERS_MOST: Final = 128


def http_client(*, roots_file: Path | None = None) -> HttpClient:
    """The client of this process, to be made inside its loop. `roots_file`: PEM certificates trusted besides the
    system's, for services that a house signs itself. There is no way to switch verification off."""
    return HttpByScheme(plain=Http11Client(), secure=AiohttpClient(roots_file=roots_file))


class HttpByScheme:
    """HttpClient over two others: one for `http://`, one for everything else."""

    def __init__(self, *, plain: HttpClient, secure: HttpClient) -> None:
        self._plain = plain
        self._secure = secure

    def destination(self, url: str, *, headers: Mapping[str, str]) -> Destination:
        chosen = self._plain if url.startswith("http://") else self._secure
        return chosen.destination(url, headers=headers)

    async def close(self) -> None:
        try:
            await self._plain.close()
        finally:
            await self._secure.close()


class AiohttpClient:
    """HttpClient over aiohttp, for `https://` and `http://`."""

    def __init__(self, *, roots_file: Path | None = None) -> None:
        trusted = ssl.create_default_context()
        if roots_file is not None:
            trusted.load_verify_locations(cafile=roots_file)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=trusted,
                limit=0,
                limit_per_host=0,
                keepalive_timeout=KEEP_IDLE_S,
                resolver=aiohttp.ThreadedResolver(),
                ttl_dns_cache=NAMES_KEPT_S,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
            requote_redirect_url=False,
            read_bufsize=UNREAD_MOST_BYTES // 2,  # aiohttp makes the sender wait at twice this
            max_line_size=HEAD_MOST_BYTES // 8,
            max_field_size=HEAD_MOST_BYTES // 8,
            max_headers=_HEADERS_MOST,
        )

    def destination(self, url: str, *, headers: Mapping[str, str]) -> Destination:
        try:
            parts = urlsplit(url)
            readable = parts.scheme in {"http", "https"} and parts.hostname and parts.username is None
        except ValueError:
            readable = False
        if not readable:
            raise HttpFault(HttpFaultKind.UNRESOLVED, "its url is not of the form https://host/path")
        if any(_breaks_line(header) for header in headers.values()):
            raise HttpFault(HttpFaultKind.UNRESOLVED, "its url or a header holds characters that cannot be sent")
        return AiohttpDestination(self._session, url, headers)

    async def close(self) -> None:
        await self._session.close()


class AiohttpDestination:
    """An address with the headers that never change."""

    __slots__ = ("_headers", "_session", "_timeout", "_url")

    def __init__(self, session: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> None:
        self._session = session
        self._url = url
        self._headers = dict(headers)
        self._timeout = aiohttp.ClientTimeout(total=None)

    async def post(self, body: bytes, *, headers: Mapping[str, str], connect_s: float) -> HttpAnswer:
        if self._timeout.connect != connect_s:
            self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_s, sock_connect=connect_s)
        try:
            response = await self._session.post(
                self._url,
                data=body,
                headers={**self._headers, **headers},
                allow_redirects=False,
                timeout=self._timeout,
            )
        except (aiohttp.ClientError, OSError, ValueError) as fault:
            raise _before_the_answer(fault) from fault
        return AiohttpAnswer(response)


class AiohttpAnswer:
    """The HttpAnswer port over a response."""

    __slots__ = ("_closed", "_deadline", "_late", "_linger", "_loop", "_response", "_waiting", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self._response = response
        self._loop = asyncio.get_running_loop()
        self._deadline = Deadline(self._loop, self._is_late)
        self._linger: asyncio.TimerHandle | None = None
        self._waiting = False
        self._late = False
        self._closed = False

    def header(self, name: str) -> str | None:
        return self._response.headers.get(name)

    def expect_by(self, at_s: float | None) -> None:
        if not self._closed:
            self._deadline.move(at_s)

    async def read(self) -> bytes:
        if self._closed:
            raise HttpFault(HttpFaultKind.CUT, "the answer was closed")
        self._waiting = True
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as fault:
            if self._late:
                raise HttpFault(HttpFaultKind.LATE, "nothing came in time") from fault
            raise HttpFault(HttpFaultKind.CUT, "the connection ended too early") from fault
        finally:
            self._waiting = False

    def finish(self) -> None:
        if self._closed:
            return
        if self._response.content.is_eof():
            self.close()
            return
        self._closed = True
        self._deadline.stop()
        self._linger = self._loop.call_later(LINGER_S, self._response.close)
        self._response.content.on_eof(self._linger.cancel)  # aiohttp itself takes the connection back at the end

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._deadline.stop()
        if self._response.content.is_eof():
            self._response.release()
        else:
            self._response.close()

    def _is_late(self) -> None:
        if self._waiting:
            self._late = True
            self._response.close()


#: In this order: certificate and name faults are connection faults to aiohttp too, and time-outs are OSErrors.
_BEFORE_THE_ANSWER: Final = (
    (
        (aiohttp.ClientSSLError, ssl.SSLError, ssl.CertificateError),
        HttpFaultKind.UNTRUSTED,
        "its certificate or TLS handshake cannot be trusted",
    ),
    ((aiohttp.ServerTimeoutError, TimeoutError), HttpFaultKind.CONNECT_TIMEOUT, "no connection in time"),
    ((aiohttp.ClientConnectorDNSError, aiohttp.InvalidURL), HttpFaultKind.UNRESOLVED, "its host name does not resolve"),
    ((aiohttp.ClientConnectorError,), HttpFaultKind.REFUSED, "no connection"),
    ((aiohttp.ClientResponseError,), HttpFaultKind.MALFORMED, "what came is not an HTTP/1.1 answer"),
    ((aiohttp.ClientConnectionError, OSError), HttpFaultKind.CUT, "the connection ended too early"),
    ((ValueError,), HttpFaultKind.REFUSED, "a header holds a line break"),
)


def _before_the_answer(fault: Exception) -> HttpFault:
    for kinds, kind, what in _BEFORE_THE_ANSWER:
        if isinstance(fault, kinds):
            return HttpFault(kind, what)
    return HttpFault(HttpFaultKind.CUT, f"the request failed ({type(fault).__name__})")


def _breaks_line(header: str) -> bool:
    return "\r" in header or "\n" in header
