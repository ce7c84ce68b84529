"""The embedded PostgreSQL: a real server for development, tests and a single node, with nothing to install.

    with EmbeddedPostgres(base, binaries=find_binaries(named=None)) as postgres:
        engine = create_async_engine(postgres.url("breakeven", "asyncpg"))

Whoever comes first makes the data directory and starts the server, whoever comes later attaches, and the last to
leave stops it. Users are counted by a lock that the kernel drops when a process dies, however it dies. If the last
one dies by kill -9 the server stays up: the next start attaches to it, and `terminate` ends it.

The server listens on a Unix socket in a directory of mode 0700 and on nothing else, unless `settings` ask for TCP;
whoever can reach the socket is trusted. Everything here blocks (a first start for seconds): call it in a thread
from asynchronous code. The log is `server.log` in the server's home; each start cuts it when it exceeds 10 MB, and
PostgreSQL itself does not rotate it.

**Home.** An ordinary user's server lives in `base`. Root's server runs as the owner of data that exist, or else as
`nobody`; where that user cannot enter `base` it lives in `<state_root>/base-<digest>`, and binaries which that user
cannot reach are copied to `<state_root>/binaries-<digest>`. Any other service that runs as `nobody` can read such a
database: for a production machine give the gateway a user of its own, or set DATABASE_URL.
"""

import contextlib
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self
from urllib.parse import quote

from app.storage.embedded_binaries import find_binaries, usable_binaries
from app.storage.embedded_errors import (
    DatabaseFailed,
    DiskFull,
    EmbeddedError,
    InUse,
    NoOwner,
    NoPlace,
    NoPostgres,
    StartFailed,
    StopFailed,
)
from app.storage.embedded_home import Home, home_of
from app.storage.embedded_locks import UserLock, anybody_uses, turn
from app.storage.embedded_server import DEFAULT_PORT, Server, cap_log, make_data_directory

__all__ = [
    "STATE_ROOT",
    "DatabaseFailed",
    "DiskFull",
    "EmbeddedError",
    "EmbeddedPostgres",
    "InUse",
    "NoOwner",
    "NoPlace",
    "NoPostgres",
    "StartFailed",
    "Status",
    "StopFailed",
    "find_binaries",
    "status",
]

STATE_ROOT = Path("/var/lib/breakeven")
SUPERUSER = "postgres"
TURN_TIMEOUT_S = 300.0
PSQL_TIMEOUT_S = 60.0
QUIET_LOCAL_SETTINGS = MappingProxyType(
    {
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_checkpoints": "off",
    }
)
WITHOUT_DURABILITY = MappingProxyType({"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"})
OUR_OWN_SETTINGS = ("data_directory", "unix_socket_directories")
MAKE_DATABASE = r"""
SELECT format('CREATE DATABASE %I', :'name') WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What can be seen of the embedded server of a base directory."""

    home: Path
    """Where it lives: the base itself, or root's stand-in for it."""
    data: Path | None
    """The data directory of the running server, or else the newest one; None before the first start."""
    running: bool
    pid: int | None
    in_use: bool
    """Whether any process counts as a user; also while somebody is starting or stopping it."""
    log: Path


class EmbeddedPostgres:
    """One process's use of the embedded server of a base directory; not for several threads at once.

    `settings` are server settings of any name; they hold for the server that this object starts, and one that runs
    already keeps those it was started with. `fsync=False` trades all durability for speed, for tests.
    """

    def __init__(
        self,
        base: Path,
        *,
        binaries: Path,
        settings: Mapping[str, str] = MappingProxyType({}),
        fsync: bool = True,
        state_root: Path = STATE_ROOT,
        start_timeout_s: float = 60.0,
        stop_timeout_s: float = 30.0,
    ) -> None:
        for name in settings:
            if name in OUR_OWN_SETTINGS or not re.fullmatch(r"[a-z_][a-z0-9_.]*", name):
                raise ValueError(
                    f"the server setting {name!r} cannot be passed to the embedded PostgreSQL: leave it out"
                )
        self._base = base
        self._binaries = binaries
        self._settings = settings
        self._fsync = fsync
        self._state_root = state_root
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._users: UserLock | None = None
        self._server: Server | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Attach to the running server, or start it (making the data directory first if needed); be counted.

        Returns when it takes connections. Harmless when started already, and brings a server back that died
        meanwhile. Raises an `EmbeddedError`; this object is then no user of the server.
        """
        home = self._home()
        home.prepare()
        binaries, major = usable_binaries(self._binaries, owner=home.owner, state_root=self._state_root)
        server = self._server_at(home, home.data(major))
        with self._turn(home):
            self._refuse_other_majors(home, major)
            users = self._users or UserLock(home.users_lock, open_file=home.owner.open_file)
            users.join()
            try:
                self._bring_up(server, binaries)
            except EmbeddedError:
                users.leave()
                raise
            except BaseException:  # interrupted: leave as stop() does, so that nothing half-started stays behind
                if users.leave():
                    server.shut_down(timeout_s=self._stop_timeout_s)
                raise
        self._users, self._server = users, server

    def stop(self) -> None:
        """Leave the server; the last user stops it, in fast mode. Harmless when called again or if it died.

        Raises `StopFailed` when it does not go down.
        """
        if self._users is None or not self._users.held:
            return
        home = self._home()
        with self._turn(home):
            if self._users.leave():
                self._shut_down_all(home)

    def terminate(self, *, force: bool = False) -> bool:
        """Stop the server although this process may not have started it; whether one ran.

        Raises `InUse` while others use it, unless `force`; `StopFailed` when it does not go down.
        """
        home = self._home()
        if not home.all_data():
            return False
        with self._turn(home):
            users = self._users or UserLock(home.users_lock, open_file=home.owner.open_file)
            was_user = users.held
            if not users.leave() and not force:
                if was_user:
                    users.join()
                raise InUse(
                    f"other processes still use the embedded PostgreSQL in {home.path}: end them first, or stop it by "
                    "force and they lose their connections"
                )
            return self._shut_down_all(home)

    def is_alive(self) -> bool:
        """Whether the server's socket answers now."""
        return self._any_server().answers()

    def url(self, database: str, driver: str | None = None) -> str:
        """The URL of a database: `postgresql://` for asyncpg and libpq, `postgresql+<driver>://` for SQLAlchemy.

        It says the port aloud, so that no PGPORT of the caller can lead a client elsewhere.
        """
        server = self._any_server()
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        place = f"host={quote(str(server.sockets), safe='/')}&port={server.port}"
        return f"{scheme}://{SUPERUSER}@/{quote(database, safe='')}?{place}"

    def ensure_database(self, name: str) -> None:
        """Make the database unless it is there. The server must be started. Raises `DatabaseFailed`, `NoPostgres`."""
        home = self._home()
        binaries, _ = usable_binaries(self._binaries, owner=home.owner, state_root=self._state_root)
        psql = [str(binaries / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-v", f"name={name}", self.url("postgres")]
        with self._turn(home):  # two that make the same database at once would trip over one another
            try:
                made = home.owner.run(psql, stdin_text=MAKE_DATABASE, timeout_s=PSQL_TIMEOUT_S)
            except FileNotFoundError as fault:
                raise NoPostgres(
                    f"{binaries} has no psql to make the database {name!r} with: name other binaries in "
                    "BREAKEVEN_PG_BIN, or set DATABASE_URL"
                ) from fault
        if made.returncode != 0:
            raise DatabaseFailed(
                f"the database {name!r} could not be made: see that the server runs and has room. psql says: "
                f"{made.stderr.strip()}"
            )

    def _home(self) -> Home:
        return home_of(self._base, state_root=self._state_root)

    def _turn(self, home: Home) -> AbstractContextManager[None]:
        return turn(home.turn_lock, open_file=home.owner.open_file, timeout_s=TURN_TIMEOUT_S)

    def _server_at(self, home: Home, data: Path) -> Server:
        port = int(self._settings.get("port", DEFAULT_PORT))
        return Server(data=data, sockets=home.sockets, log=home.log, owner=home.owner, default_port=port)

    def _any_server(self) -> Server:
        """Ours once started; before that the one that runs, or the newest data, or what a first start would make."""
        if self._server is not None:
            return self._server
        home = self._home()
        return self._server_at(home, _current_data(home) or home.data(0))

    def _bring_up(self, server: Server, binaries: Path) -> None:
        cap_log(server.log, owner=server.owner)
        make_data_directory(server, binaries=binaries, sync=self._fsync)
        durability = {} if self._fsync else WITHOUT_DURABILITY
        settings = {**QUIET_LOCAL_SETTINGS, **_preload(binaries), **durability, **self._settings}
        settings["unix_socket_directories"] = str(server.sockets)
        server.bring_up(binaries=binaries, settings=settings, timeout_s=self._start_timeout_s)

    def _refuse_other_majors(self, home: Home, major: int) -> None:
        """Another major's data are never opened, and never silently passed over for an empty database."""
        for other, data in home.all_data().items():
            alive = self._server_at(home, data).process() is not None
            if other != major and (alive or not home.data(major).exists()):
                raise NoPlace(
                    f"{data} belongs to PostgreSQL {other} and these binaries are {major}: name binaries of PostgreSQL "
                    f"{other} in BREAKEVEN_PG_BIN, or move the data with pg_dump of {other} and pg_restore of {major}, "
                    f"or stop its server and move {data} away to begin afresh"
                )

    def _shut_down_all(self, home: Home) -> bool:
        servers = [self._server_at(home, data) for data in home.all_data().values()]
        ran = [server for server in servers if server.process() is not None]
        for server in servers:
            server.shut_down(timeout_s=self._stop_timeout_s)
        if home.sockets.parent != home.path:
            with contextlib.suppress(OSError):
                home.sockets.rmdir()
        return bool(ran)


def status(base: Path, *, state_root: Path = STATE_ROOT) -> Status:
    """What can be seen of the server of a base directory; makes nothing. Raises `NoPlace` where one may not look."""
    home = home_of(base, state_root=state_root)
    data = _current_data(home)
    if data is None:
        return Status(home=home.path, data=None, running=False, pid=None, in_use=False, log=home.log)
    server = Server(data=data, sockets=home.sockets, log=home.log, owner=home.owner)
    running = server.process()
    return Status(
        home=home.path,
        data=data,
        running=server.answers(),
        pid=running.pid if running else None,
        in_use=_in_use(home),
        log=home.log,
    )


def _in_use(home: Home) -> bool:
    open_file = home.owner.open_file
    try:
        with turn(home.turn_lock, open_file=open_file, timeout_s=0):
            return anybody_uses(home.users_lock, open_file=open_file)
    except StartFailed:
        return True  # somebody is at it right now


def _current_data(home: Home) -> Path | None:
    found = list(home.all_data().values())
    for data in found:
        if Server(data=data, sockets=home.sockets, log=home.log, owner=home.owner).process() is not None:
            return data
    return found[-1] if found else None


def _preload(binaries: Path) -> dict[str, str]:
    """pg_stat_statements, where the installation has it."""
    libraries = (binaries.parent / "lib", binaries.parent / "lib" / "postgresql", binaries.parent / "lib64")
    suffixes = (".so", ".dylib")
    if any((folder / f"pg_stat_statements{suffix}").exists() for folder in libraries for suffix in suffixes):
        return {"shared_preload_libraries": "pg_stat_statements"}
    return {}
