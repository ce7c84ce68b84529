"""Plain HTTP/1.1 on our own: a pool of connections under httptools, for targets without TLS.

It exists because every layer that is not here is paid for on each request and each streamed chunk; README.md has the
figures.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from app.providers.exchange import HttpAnswer, HttpFault, HttpFaultKind
from app.providers.http11_connection import Connection

#: uvicorn, under most engines, ends an idle connection after 5 s; we leave first, so that no request meets the end.
KEEP_IDLE_S: Final = 4.0

_Place = tuple[str, int]


class Http11Client:
    """The HttpClient port for `http://`."""

    def __init__(self) -> None:
        self._idle: dict[_Place, list[Connection]] = {}
        self._all: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    def destination(self, url: str, *, headers: Mapping[str, str]) -> Http11Destination:
        place, head = _prepared(url, headers)
        return Http11Destination(self, place, head)

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

    async def connection(self, place: _Place, *, connect_s: float) -> Connection:
        """An idle connection to the place, the one used last, or a new one. Raises HttpFault."""
        idle = self._idle.get(place)
        if idle:
            now_s = asyncio.get_running_loop().time()
            while idle:
                connection = idle.pop()
                if connection.usable and connection.rest_until_s > now_s:
                    return connection
                connection.abort()
        return await self._connected(place, connect_s=connect_s)

    async def _connected(self, place: _Place, *, connect_s: float) -> Connection:
        host, port = place
        loop = asyncio.get_running_loop()
        connection = Connection(loop=loop, at_rest=lambda rested: self._rested(place, rested), gone=self._gone)
        try:
            async with asyncio.timeout(connect_s):
                await loop.create_connection(lambda: connection, host, port)
        except TimeoutError as fault:
            raise HttpFault(HttpFaultKind.CONNECT_TIMEOUT, "no connection in time") from fault
        except (socket.gaierror, UnicodeError) as fault:
            raise HttpFault(HttpFaultKind.UNRESOLVED, "its host name does not resolve") from fault
        except OSError as fault:
            raise HttpFault(HttpFaultKind.REFUSED, "no connection") from fault
        self._all.add(connection)
        return connection

    def _rested(self, place: _Place, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        connection.rest_until_s = loop.time() + KEEP_IDLE_S
        self._idle.setdefault(place, []).append(connection)
        if self._sweep is None:
            self._sweep = loop.call_later(KEEP_IDLE_S, self._swept)

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
            self._sweep = loop.call_later(KEEP_IDLE_S, self._swept)


class Http11Destination:
    """A place and a path, with the part of the head that never changes."""

    __slots__ = ("_client", "_head", "_place")

    def __init__(self, client: Http11Client, place: _Place, head: bytes) -> None:
        self._client = client
        self._place = place
        self._head = head

    async def post(self, body: bytes, *, headers: Mapping[str, str], connect_s: float) -> HttpAnswer:
        head = self._head + _lines(headers) + b"content-length: %d\r\n\r\n" % len(body)
        connection = await self._client.connection(self._place, connect_s=connect_s)
        status = await connection.exchange(head, body)
        return Http11Answer(connection, status)


class Http11Answer:
    """The HttpAnswer port. It lets go of its connection when it is closed: the next exchange has its own answer."""

    __slots__ = ("_connection", "_headers", "status")

    def __init__(self, connection: Connection, status: int) -> None:
        self.status = status
        self._headers = connection.headers
        self._connection: Connection | None = connection

    def header(self, name: str) -> str | None:
        wanted = name.encode()
        for each, header in self._headers:
            if each == wanted:
                return header.decode("latin-1").strip()
        return None

    def expect_by(self, at_s: float | None) -> None:
        if self._connection is not None:
            self._connection.expect_by(at_s)

    async def read(self) -> bytes:
        if self._connection is None:
            raise HttpFault(HttpFaultKind.CUT, "the answer was closed")
        return await self._connection.read()

    def finish(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.finish()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _prepared(url: str, headers: Mapping[str, str]) -> tuple[_Place, bytes]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 80
    except ValueError as fault:
        raise HttpFault(HttpFaultKind.UNRESOLVED, "its url cannot be read") from fault
    if parts.scheme != "http" or not host or parts.username is not None:
        raise HttpFault(HttpFaultKind.UNRESOLVED, "its url is not of the form http://host:port/path")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    authority = f"[{host}]" if ":" in host else host
    if port != 80:
        authority = f"{authority}:{port}"
    try:
        request_line = f"POST {path} HTTP/1.1\r\n".encode("ascii")
        if any(byte <= 32 for byte in path.encode("ascii")):
            raise ValueError("blank or control character in a path")
        return (host, port), request_line + _lines({"host": authority.encode("idna").decode(), **headers})
    except ValueError as fault:
        raise HttpFault(HttpFaultKind.UNRESOLVED, "its url or a header holds characters that cannot be sent") from fault


def _lines(headers: Mapping[str, str]) -> bytes:
    lines = "".join([f"{name}: {header}\r\n" for name, header in headers.items()])
    if lines.count("\r") != len(headers) or lines.count("\n") != len(headers):
        raise HttpFault(HttpFaultKind.REFUSED, "a header holds a line break")
    return lines.encode("latin-1")
