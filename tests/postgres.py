"""One real PostgreSQL for the whole test run, and a fresh database for whoever asks.

`postgres` starts the embedded server once, without durability; `fresh_database` makes a database from a template
and drops it when the test ends.
"""

import contextlib
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest

from app.storage.embedded import EmbeddedPostgres, find_binaries, status
from app.storage.embedded_binaries import usable_binaries
from app.storage.embedded_home import home_of

RESTART_S = 60.0
SETTINGS = {"max_connections": "200", "autovacuum": "off", "max_wal_size": "512MB"}


@contextlib.contextmanager
def open_directory(prefix: str = "breakeven-test-") -> Iterator[Path]:
    """A temporary directory with a short path that every user may enter, as tmp_path is not; removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def chosen_binaries() -> Path:
    """The binaries that BREAKEVEN_PG_BIN names, or the first ones found."""
    named = os.environ.get("BREAKEVEN_PG_BIN")
    return find_binaries(named=Path(named) if named else None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The server of this test run."""
    with open_directory() as directory:
        server = EmbeddedPostgres(
            directory / "base",
            binaries=chosen_binaries(),
            settings=SETTINGS,
            fsync=False,
            state_root=directory / "state",
        )
        with server:
            yield server


@dataclass(frozen=True, slots=True)
class OwnServer:
    """A server that a test may kill."""

    server: EmbeddedPostgres
    base: Path
    state_root: Path

    def kill(self) -> None:
        """kill -9 of the postmaster."""
        pid = status(self.base, state_root=self.state_root).pid
        assert pid is not None, "it does not run"
        os.kill(pid, signal.SIGKILL)

    def restart(self, environment: Mapping[str, str]) -> None:
        """Stop it, and start it as it was started, with this in its environment."""
        postmaster = status(self.base, state_root=self.state_root).pid
        assert postmaster is not None, "it does not run"
        data = Path(f"/proc/{postmaster}/cwd").resolve()
        home = home_of(self.base, state_root=self.state_root)
        binaries, _ = usable_binaries(chosen_binaries(), owner=home.owner, state_root=self.state_root)
        log = data.with_name("restart.log")
        log_fd = home.owner.open_file(log, os.O_WRONLY | os.O_APPEND)
        try:
            done = home.owner.run(
                [binaries / "pg_ctl", "restart", "-s", "-w", "-m", "fast", "-D", str(data)],
                environment=environment,
                log_fd=log_fd,
                timeout_s=RESTART_S,
            )
        finally:
            os.close(log_fd)
        assert done.returncode == 0, log.read_text()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP of the whole server for the length of a block, and SIGCONT come what may."""
        postmaster = status(self.base, state_root=self.state_root).pid
        assert postmaster is not None, "it does not run"
        processes = [postmaster, *_children(postmaster)]
        try:
            _tell_all(processes, signal.SIGSTOP)
            yield
        finally:
            _tell_all(processes, signal.SIGCONT)


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


def _tell_all(processes: list[int], sent: signal.Signals) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sent)


@contextlib.contextmanager
def own_server(**settings: str) -> Iterator[OwnServer]:
    """A server of a test's own, running, with every durability but none of the shared one's guests."""
    with open_directory() as directory:
        base, state_root = directory / "base", directory / "state"
        server = EmbeddedPostgres(
            base, binaries=chosen_binaries(), settings={**SETTINGS, **settings}, state_root=state_root
        )
        with server:
            yield OwnServer(server=server, base=base, state_root=state_root)


@dataclass(slots=True)
class FreshDatabases:
    """Makes databases and remembers them. Call it with the name of a template that nobody is connected to."""

    server: EmbeddedPostgres
    made: list[str] = field(default_factory=list)

    async def __call__(self, template: str = "template1", *, driver: str | None = None) -> str:
        """Make a database from the template; its URL (for asyncpg, or for SQLAlchemy with the driver named)."""
        name = f"test_{uuid.uuid4().hex}"
        await self._say(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        self.made.append(name)
        return self.server.url(name, driver)

    async def drop_all(self) -> None:
        """Drop what was made, and whoever is still connected with it."""
        for name in self.made:
            await self._say(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self.made.clear()

    async def _say(self, statement: str) -> None:
        connection = await asyncpg.connect(self.server.url("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@pytest.fixture
async def fresh_database(postgres: EmbeddedPostgres) -> AsyncIterator[FreshDatabases]:
    """`url = await fresh_database(template)`: a database of this test's own."""
    databases = FreshDatabases(server=postgres)
    try:
        yield databases
    finally:
        await databases.drop_all()
