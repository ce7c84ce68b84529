"""A standby of a test's own server: it copies every commit, before that is answered or later, and can take over."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from app.storage.embedded_binaries import usable_binaries
from app.storage.embedded_home import Owner, home_of
from tests.books import said
from tests.postgres import SETTINGS, OwnServer, chosen_binaries

PORT = 5433
TOOL_S = 60.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Standby:
    """A running standby."""

    primary_url: str
    data: Path
    binaries: Path
    owner: Owner

    @property
    def url(self) -> str:
        """The same database there."""
        return self.primary_url.partition("&port=")[0] + f"&port={PORT}"

    async def promote(self) -> None:
        """It is the primary from now on, and waits for nobody's copy."""
        await self.tool("pg_ctl", "promote", "-w", "-D", str(self.data))

    async def falls_behind(self) -> None:
        """From now on it gets nothing more; returns when its primary knows that too."""
        await said(self.url, "alter system set primary_conninfo = ''")
        await said(self.url, "select pg_reload_conf()")
        async with asyncio.timeout(TOOL_S):
            while await said(self.primary_url, "select from pg_stat_replication"):
                await asyncio.sleep(POLL_S)

    async def tool(self, name: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as the server's user. Raises RuntimeError with what it says."""
        log = self.data.with_suffix(".log")
        log_fd = self.owner.open_file(log, os.O_WRONLY | os.O_APPEND)
        try:
            done = await asyncio.to_thread(
                self.owner.run, [self.binaries / name, *arguments], timeout_s=TOOL_S, log_fd=log_fd
            )
        finally:
            os.close(log_fd)
        if done.returncode != 0:
            raise RuntimeError(f"{name} ended with {done.returncode}: {log.read_text()}")


@contextlib.asynccontextmanager
async def standby_of(own: OwnServer, database: str, *, synchronous: bool = True) -> AsyncIterator[Standby]:
    """Copy the server, start the copy behind it, and (`synchronous`) let no commit be answered before the copy has it
    too."""
    home = home_of(own.base, state_root=own.state_root)
    binaries, _ = usable_binaries(chosen_binaries(), owner=home.owner, state_root=own.state_root)
    url = own.server.url(database)
    data = home.path / "standby"
    home.owner.keep(data)
    standby = Standby(url, data, binaries, home.owner)
    await standby.tool("pg_basebackup", "-D", str(data), "-d", url, "-R", "-X", "stream", "-c", "fast", "--no-sync")
    settings = {
        **SETTINGS,
        "port": str(PORT),
        "listen_addresses": "",
        "unix_socket_directories": str(home.sockets),
        "unix_socket_permissions": "0700",
    }
    options = " ".join(f"-c {name}={setting or chr(39) * 2}" for name, setting in settings.items())
    await standby.tool("pg_ctl", "start", "-w", "-D", str(data), "-o", options)
    try:
        if synchronous:
            await said(url, "alter system set synchronous_standby_names = '*'")
            await said(url, "select pg_reload_conf()")
        wanted = "sync" if synchronous else "async"
        async with asyncio.timeout(TOOL_S):
            while not await said(url, "select from pg_stat_replication where sync_state = $1", wanted):
                await asyncio.sleep(POLL_S)
        yield standby
    finally:
        await standby.tool("pg_ctl", "stop", "-m", "immediate", "-D", str(data))
