"""The one HTTP client: HTTP/1.1 over TCP and TLS, a pool of connections under httptools.

It is our own because every layer that is not here is paid for on each request and each streamed chunk, and because it
is small enough to be held to all that `exchange` promises; README.md has the figures and the decision.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from app.ports.deadline import Within
from app.providers.exchange import HttpAnswer, HttpClient, HttpFault, HttpFaultKind
from app.providers.http_connection import Connection
from app.providers.names import Address, LookUp, Names, system_look_up

#: uvicorn, under most engines, ends an idle connection after 5 s; we leave first, so that no request meets the end.
KEEP_IDLE_S: Final = 4.0
#: Hosted services wait for minutes; a handshake saved is worth more.
KEEP_IDLE_TLS_S: Final = 15.0

_OK: Final = 200
_PORTS: Final = {"http": 80, "https": 443}


class Place(NamedTuple):
    """Where a connection leads: connections to the same place are interchangeable."""

    secure: bool
    host: str
    port: int


def http_client(*, roots_file: Path | None = None) -> HttpClient:
    """The client of this process. `roots_file`: PEM certificates trusted besides the system's, for services that a
    house signs itself. There is no way to switch verification off."""
    return PooledClient(roots_file=roots_file)


class PooledClient:
    """The HttpClient port. Belongs to one event loop."""

    def __init__(
        self,
        *,
        roots_file: Path | None = None,
        keep_idle_s: float = KEEP_IDLE_S,
        keep_idle_tls_s: float = KEEP_IDLE_TLS_S,
        look_up: LookUp = system_look_up,
    ) -> None:
        """`look_up` finds the addresses of a name, and may wait."""
        self._keep_idle_s = keep_idle_s
        self._keep_idle_tls_s = keep_idle_tls_s
        self._names = Names(look_up=look_up)
        self._trusted = ssl.create_default_context()
        self._trusted.set_alpn_protocols(["http/1.1"])
        if roots_file is not None:
            self._trusted.load_verify_locations(cafile=roots_file)
        self._idle: dict[Place, list[Connection]] = {}
        self._all: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    def destination(self, url: str, *, headers: Mapping[str, str]) -> PooledDestination:
        place, request = _prepared(url, headers)
        return PooledDestination(self, place, request)

    async def close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in list(self._all):
            connection.abort()
        self._idle.clear()
        if self._all:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied

    async def connection(self, place: Place, *, connect_s: float) -> Connection:
        """An idle connection to the place, the one used last, or a new one. Raises HttpFault."""
        idle = self._idle.get(place)
        if idle:
            now_s = idle[-1].now_s()
            while idle:
                connection = idle.pop()
                if connection.usable and connection.rest_until_s > now_s:
                    return connection
                connection.abort()
        try:
            async with Within(connect_s):
                return await self._connected(place, connect_s=connect_s)
        except TimeoutError as fault:
            raise HttpFault(HttpFaultKind.CONNECT_TIMEOUT, "no connection in time") from fault
        except (ssl.SSLError, ssl.CertificateError) as fault:
            what = "its certificate or TLS handshake cannot be trusted"
            raise HttpFault(HttpFaultKind.UNTRUSTED, what) from fault
        except (socket.gaierror, UnicodeError) as fault:
            raise HttpFault(HttpFaultKind.UNRESOLVED, "its host name does not resolve") from fault
        except OSError as fault:
            raise HttpFault(HttpFaultKind.REFUSED, "no connection") from fault

    async def _connected(self, place: Place, *, connect_s: float) -> Connection:
        """A new connection, to the second address if the first has not answered in half of the time."""
        addresses = _two_of(await self._names.addresses(place.host))
        for address in addresses[:-1]:
            try:
                async with Within(connect_s / 2):
                    return await self._connected_to(address, place)
            except ssl.SSLError:
                raise
            except OSError:  # a TimeoutError is one
                continue
        return await self._connected_to(addresses[-1], place)

    async def _connected_to(self, address: str, place: Place) -> Connection:
        loop = asyncio.get_running_loop()
        connection = Connection(loop=loop, at_rest=lambda rested: self._rested(place, rested), gone=self._gone)
        await loop.create_connection(
            lambda: connection,
            address,
            place.port,
            ssl=self._trusted if place.secure else None,
            server_hostname=place.host if place.secure else None,
        )
        self._all.add(connection)
        return connection

    def _rested(self, place: Place, connection: Connection) -> None:
        rest_s = self._keep_idle_tls_s if place.secure else self._keep_idle_s
        connection.rest_until_s = connection.now_s() + rest_s
        self._idle.setdefault(place, []).append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._keep_idle_s, self._swept)

    def _gone(self, connection: Connection) -> None:
        self._all.discard(connection)
        if not self._all and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)
        for idle in self._idle.values():
            if connection in idle:
                idle.remove(connection)
                return

    def _swept(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        self._sweep = None
        for place, idle in list(self._idle.items()):
            for connection in idle:
                if connection.rest_until_s <= now_s:
                    connection.abort()
            kept = [connection for connection in idle if connection.rest_until_s > now_s]
            if kept:
                self._idle[place] = kept
            else:
                del self._idle[place]
        if self._idle:
            self._sweep = loop.call_later(self._keep_idle_s, self._swept)


class PooledDestination:
    """A place and a path, with the part of the head that never changes: all but the method."""

    __slots__ = ("_client", "_get", "_place", "_post")

    def __init__(self, client: PooledClient, place: Place, request: bytes) -> None:
        self._client = client
        self._place = place
        self._post = b"POST " + request
        self._get = b"GET " + request + b"\r\n"

    async def post(
        self, body: bytes, *, headers: Mapping[str, str], connect_s: float, unread: bytearray | None = None
    ) -> HttpAnswer:
        head = self._post + _lines(headers) + b"content-length: %d\r\n\r\n" % len(body)
        connection = await self._client.connection(self._place, connect_s=connect_s)
        try:
            status = await connection.exchange(head, body)
        except asyncio.CancelledError:
            if unread is not None and connection.status == _OK:
                unread += connection.unread()
            raise
        return PooledAnswer(connection, status)

    async def get(self, *, connect_s: float) -> HttpAnswer:
        connection = await self._client.connection(self._place, connect_s=connect_s)
        status = await connection.exchange(self._get, b"")
        return PooledAnswer(connection, status)


class PooledAnswer:
    """The HttpAnswer port. It lets go of its connection when it is closed: the next exchange has its own answer."""

    __slots__ = ("_connection", "_headers", "status")

    def __init__(self, connection: Connection, status: int) -> None:
        self.status = status
        self._headers = connection.headers
        self._connection: Connection | None = connection

    def header(self, name: str) -> str | None:
        header = self._headers.get(name.encode())
        return None if header is None else header.decode("latin-1").strip()

    def expect_by(self, at_s: float | None) -> None:
        if self._connection is not None:
            self._connection.expect_by(at_s)

    async def read(self) -> bytes:
        if self._connection is None:
            raise HttpFault(HttpFaultKind.CUT, "the answer was closed")
        return await self._connection.read()

    def unread(self) -> bytes:
        return b"" if self._connection is None else self._connection.unread()

    def finish(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.finish()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _two_of(found: Sequence[Address]) -> list[str]:
    """At most two to try: the one the system prefers, then one of the other family, or the next."""
    preferred = found[0]
    others = [each for each in found if each[1] != preferred[1]]
    other_family = [each for each in others if each[0] != preferred[0]]
    return [address for _, address in (preferred, *(other_family or others)[:1])]


def _prepared(url: str, headers: Mapping[str, str]) -> tuple[Place, bytes]:
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError as fault:
        raise HttpFault(HttpFaultKind.UNRESOLVED, "its url cannot be read") from fault
    if scheme not in _PORTS or not host or parts.username is not None:
        raise HttpFault(HttpFaultKind.UNRESOLVED, "its url is not of the form http://host:port/path")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    authority = f"[{host}]" if ":" in host else host
    if port is not None and port != _PORTS[scheme]:
        authority = f"{authority}:{port}"
    try:
        spelled = path.encode("ascii")
        if any(byte <= 32 for byte in spelled):
            raise ValueError("a blank or a control character in a path")
        lines = _lines({"host": authority.encode("idna").decode(), **headers})
    except ValueError as fault:
        raise HttpFault(HttpFaultKind.UNRESOLVED, "its url or a header holds characters that cannot be sent") from fault
    place = Place(secure=scheme == "https", host=host, port=port or _PORTS[scheme])
    return place, spelled + b" HTTP/1.1\r\n" + lines


def _lines(headers: Mapping[str, str]) -> bytes:
    lines = "".join([f"{name}: {header}\r\n" for name, header in headers.items()])
    if lines.count("\r") != len(headers) or lines.count("\n") != len(headers):
        raise HttpFault(HttpFaultKind.REFUSED, "a header holds a line break")
    return lines.encode("latin-1")
