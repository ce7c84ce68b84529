"""Which Postgres: the one that DATABASE_URL names, or the embedded one, for as long as somebody uses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from app.domain.errors import SetupError
from app.settings import Settings
from app.storage.embedded import EmbeddedPostgres, status
from app.storage.embedded_binaries import find_binaries
from app.storage.embedded_errors import EmbeddedError

DATABASE = "breakeven"


@contextmanager
def database_url(settings: Settings) -> Iterator[str]:
    """The database for the length of a block. The embedded server is started by its first user in this data directory
    and stopped by its last. Raises SetupError."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    try:
        server = embedded(settings)
        server.start()
    except EmbeddedError as fault:
        raise SetupError(str(fault)) from fault
    try:
        server.ensure_database(DATABASE)
        yield server.url(DATABASE)
    finally:
        server.stop()


def embedded(settings: Settings) -> EmbeddedPostgres:
    """This data directory's own server, not started. Raises EmbeddedError without binaries."""
    binaries = find_binaries(named=settings.pg_bin)
    return EmbeddedPostgres(settings.data.absolute() / "postgres", binaries=binaries)


def url_in_use(settings: Settings) -> str | None:
    """The database, if it is another's or the embedded one runs already; starts nothing. Raises SetupError."""
    if settings.database_url is not None:
        return settings.database_url
    try:
        if not status(settings.data.absolute() / "postgres").running:
            return None
        return embedded(settings).url(DATABASE)
    except EmbeddedError as fault:
        raise SetupError(str(fault)) from fault
