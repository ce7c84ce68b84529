"""A door of TCP in front of PostgreSQL's unix socket, that can be slow, shut, or cut a connection at its worst moment.

async with FaultProxy(server_url) as proxy:
    gateway.environment = {"DATABASE_URL": proxy.url("books")}
    proxy.answers_late_s = 0.5      # every answer of the server comes so much later, in order
    proxy.cut_commits = 3           # the next three commits reach the server, and nobody hears that they did
    proxy.shut()                    # connections break, new ones are broken at once
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

#: A simple query that ends a transaction, as asyncpg sends it, and what the server says when it has done so.
_COMMIT = b"Q\x00\x00\x00\x0cCOMMIT;\x00"
_COMMITTED = b"COMMIT\x00"
_MOST_BYTES = 1 << 16


@dataclass(slots=True)
class _Line:
    """One client's connection, and ours to the server on its behalf."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    #: A commit is on its way whose answer nobody may hear.
    is_cut: bool = False

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


@dataclass(slots=True)
class FaultProxy:
    """Enter it in the test's loop; leaving it breaks what is connected. `server_url` names a unix socket."""

    server_url: str
    answers_late_s: float = 0.0
    #: So many commits are still to be cut off.
    cut_commits: int = 0
    #: So many were.
    cuts: int = 0
    is_shut: bool = False
    _lines: list[_Line] = field(default_factory=list)
    _listener: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._listener is not None, "it was entered"
        self._listener.close()
        self.shut()
        while self._lines:
            await asyncio.sleep(0.001)

    def url(self, database: str) -> str:
        """The database's URL through this door."""
        assert self._listener is not None, "enter it first"
        port = self._listener.sockets[0].getsockname()[1]
        return f"postgresql://postgres@127.0.0.1:{port}/{database}?sslmode=disable"

    def shut(self) -> None:
        """Nobody gets through from now on."""
        self.is_shut = True
        self.break_all()

    def open(self) -> None:
        """Everybody does again."""
        self.is_shut = False

    def leads_to(self, server_url: str) -> None:
        """Another server stands behind the door from now on."""
        self.server_url = server_url
        self.break_all()

    def break_all(self) -> None:
        """What is connected now breaks."""
        for line in self._lines:
            line.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_shut:
            writer.transport.abort()
            return
        named = parse_qs(urlsplit(self.server_url).query)
        try:
            from_server, to_server = await asyncio.open_unix_connection(
                f"{named['host'][0]}/.s.PGSQL.{named['port'][0]}"
            )
        except OSError:
            writer.transport.abort()
            return
        line = _Line(writer, to_server)
        self._lines.append(line)
        answers: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        pumps = [
            asyncio.ensure_future(self._ask(line, reader)),
            asyncio.ensure_future(self._hear(line, from_server, answers)),
            asyncio.ensure_future(_tell(writer, answers)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            line.abort()
            self._lines.remove(line)

    async def _ask(self, line: _Line, reader: asyncio.StreamReader) -> None:
        while said := await reader.read(_MOST_BYTES):
            if self.cut_commits and _COMMIT in said:
                self.cut_commits -= 1
                line.is_cut = True
            line.server.write(said)
            await line.server.drain()

    async def _hear(
        self, line: _Line, reader: asyncio.StreamReader, answers: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        loop = asyncio.get_running_loop()
        while said := await reader.read(_MOST_BYTES):
            if line.is_cut:
                if _COMMITTED in said:
                    self.cuts += 1
                    return
                continue
            answers.put_nowait((loop.time() + self.answers_late_s, said))


async def _tell(writer: asyncio.StreamWriter, answers: asyncio.Queue[tuple[float, bytes]]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        at_s, said = await answers.get()
        if at_s > loop.time():
            await asyncio.sleep(at_s - loop.time())
        writer.write(said)
        await writer.drain()
