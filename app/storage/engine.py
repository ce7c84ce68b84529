"""The way to Postgres: a small pool that connects when it is needed and survives a server that comes and goes.

Everything that can go wrong on the way becomes one of two answers: `BooksAway` (the server, try again) or
`RowsRefused` (the content, trying again is no use). Nothing of the driver leaves this room.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

import asyncpg

from app.domain.errors import SetupError
from app.ports import BooksAway, RowsRefused

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0
IDLE_CONNECTION_S = 300.0

_T = TypeVar("_T")

#: Statements that wait for a lock and then read what its holder left are right at this level alone: whatever the
#: database or the role prefers.
ISOLATION: Final = {"default_transaction_isolation": "read committed"}
#: Said at connect: days and hours are UTC, booked means on disk, and no statement here is worth compiling.
_SESSION: Final = {"timezone": "UTC", "synchronous_commit": "on", "jit": "off", **ISOLATION}

#: What a server that is gone, going, coming or overrun makes the driver raise; a TimeoutError is an OSError.
_AWAY = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)
#: Classes 22, 23 and 54: a value, a constraint, a limit of the program. All else that it answers is its own affair.
_CONTENT = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)
_NOT_MIGRATED = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.UndefinedFunctionError)
#: So long a transaction that was broken off waits before it is tried again: whom it made way for has to come by first,
#: or finds it in the same place.
PAUSES_S: Final = (0.02, 0.1, 0.5)
#: The transaction was in somebody's way, and was undone so that others could go on.
_BROKEN_OFF = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


class BrokenOff(BooksAway):
    """The server undid the whole transaction in favour of another one: the same may well succeed soon."""


class Cursor(Protocol):
    """Rows that stay at the server until they are asked for."""

    async def fetch(self, most: int, *, timeout: float | None = None) -> Sequence[Any]: ...


class Connection(Protocol):
    """The part of a connection that the books use."""

    async def execute(self, statement: str, *values: object, timeout: float | None = None) -> str: ...

    async def fetch(self, statement: str, *values: object, timeout: float | None = None) -> Sequence[Any]: ...

    async def fetchval(self, statement: str, *values: object, timeout: float | None = None) -> Any: ...

    def cursor(self, statement: str, *values: object, timeout: float | None = None) -> Awaitable[Cursor]:
        """Inside a transaction; its rows come a batch at a time."""
        ...

    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False
    ) -> AbstractAsyncContextManager[object]: ...


class Database:
    """A pool of at most `connections_most` connections to one database; none is made before the first is needed.

    Entered once, by whoever closes it. A server that was killed and came back needs nothing from anybody: the calls
    in between raise BooksAway.
    """

    def __init__(
        self,
        url: str,
        *,
        application: str = "breakeven",
        connections_most: int = 4,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        command_timeout_s: float = COMMAND_TIMEOUT_S,
        close_timeout_s: float = CLOSE_TIMEOUT_S,
    ) -> None:
        """`url` as `driver_url` takes it. Raises SetupError for another kind of URL."""
        self._url = driver_url(url)
        self._application = application
        self._connections_most = connections_most
        self._connect_timeout_s = connect_timeout_s
        self._command_timeout_s = command_timeout_s
        self._close_timeout_s = close_timeout_s
        self._pool: Any = None

    async def __aenter__(self) -> Self:
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._connections_most,
            max_inactive_connection_lifetime=IDLE_CONNECTION_S,
            timeout=self._connect_timeout_s,
            command_timeout=self._command_timeout_s,
            server_settings={**_SESSION, "application_name": self._application},
            reset=_leave_as_it_is,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for statements under way, but not for ever: then it cuts them off."""
        pool, self._pool = self._pool, None
        try:
            async with asyncio.timeout(self._close_timeout_s):
                await pool.close()
        except _AWAY:
            pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for the length of a block. Raises BooksAway and RowsRefused for whatever fails inside it."""
        if self._pool is None:
            raise RuntimeError("this Database is not open: enter it with `async with` first")
        with told_in_our_words():
            async with self._pool.acquire(timeout=self._connect_timeout_s) as connection:
                yield connection


async def again_when_broken_off(transaction: Callable[[], Awaitable[_T]]) -> _T:
    """What the transaction says; one that was broken off is tried again after each of `PAUSES_S`. Raises what it
    raises, and BrokenOff when the last try was broken off too."""
    for pause_s in PAUSES_S:
        try:
            return await transaction()
        except BrokenOff:
            await asyncio.sleep(pause_s)
    return await transaction()


def driver_url(url: str) -> str:
    """The URL as the driver takes it: `postgresql://`, `postgres://` or `postgresql+asyncpg://`, with a host or with
    `?host=/socket/directory`. Raises SetupError for anything else."""
    scheme, colon, rest = url.partition("://")
    if not colon or scheme not in ("postgresql", "postgres", "postgresql+asyncpg"):
        raise SetupError("DATABASE_URL is no PostgreSQL URL: write postgresql://user:password@host/database")
    return f"postgresql://{rest}"


@contextmanager
def told_in_our_words() -> Iterator[None]:
    """Turns what the driver raises into BooksAway, RowsRefused, or SetupError for a URL it cannot use."""
    try:
        yield
    except asyncpg.ClientConfigurationError as fault:
        raise SetupError(f"DATABASE_URL cannot be used: {fault}") from fault
    except _AWAY as fault:
        raise _unreachable(fault) from fault
    except _CONTENT as fault:
        raise RowsRefused(f"Postgres refuses the content: {fault}") from fault
    except _BROKEN_OFF as fault:
        raise BrokenOff(
            f"Postgres broke the transaction off in favour of another ({fault.sqlstate}: {fault}): try again"
        ) from fault
    except asyncpg.PostgresError as fault:
        raise _answered(fault) from fault


def _unreachable(fault: Exception) -> BooksAway:
    if isinstance(fault, TimeoutError):
        return BooksAway("Postgres did not answer in time: see whether it is overloaded or stopped, then try again")
    return BooksAway(
        f"Postgres cannot be reached ({fault or type(fault).__name__}): see that it runs and that DATABASE_URL names it"
    )


def _answered(fault: asyncpg.PostgresError) -> BooksAway:
    mend = "run `breakeven db migrate`" if isinstance(fault, _NOT_MIGRATED) else "see the server's log, then try again"
    return BooksAway(f"Postgres cannot do that now ({fault.sqlstate}: {fault}): {mend}")


async def _leave_as_it_is(connection: object) -> None:
    """No statement here changes its session, so handing a connection back needs no round trip."""
