"""`breakeven db …`: the database that keeps the ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated

import typer

from app.bootstrap import Office, database_url, migrate
from app.bootstrap.postgres import DATABASE, embedded
from app.cli.books import as_a_guest, in_office
from app.cli.output import AsJson, write_json
from app.domain.errors import SetupError
from app.ports import BooksAway
from app.settings import Settings, read_settings
from app.storage.embedded import EmbeddedPostgres, status
from app.storage.embedded_errors import EmbeddedError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Look after the database: start, stop, migrate, url, status."
)


@app.command(help="Start the embedded PostgreSQL and leave it running.")
def start() -> None:
    settings = read_settings()
    with _ours(settings) as server:
        server.start()
        server.ensure_database(DATABASE)
        # Not stopped: it stays until `db stop`, or until the last gateway, console or `up` that uses it ends.
        print(server.url(DATABASE))


@app.command(help="Stop the embedded PostgreSQL.")
def stop(
    force: Annotated[bool, typer.Option("--force", help="Even while other programs use it.")] = False,
) -> None:
    with _ours(read_settings()) as server:
        ran = server.terminate(force=force)
    print("stopped" if ran else "it was not running")


@app.command("migrate", help="Bring the database to this version, and make the partitions of the next months.")
def bring_up(json: AsJson = False) -> None:
    with database_url(as_a_guest(read_settings())) as url:
        partitions = migrate(url)
    if json:
        write_json({"migrated": True, "partitions": list(partitions)})
    else:
        print(f"the database is of this version; new partitions: {', '.join(partitions) or 'none were needed'}")


@app.command(help="The database's URL, for psql and other tools.")
def url() -> None:
    settings = read_settings()
    if settings.database_url is not None:
        print(settings.database_url)
        return
    with _ours(settings) as server:
        if not server.is_alive():
            raise SetupError("the embedded PostgreSQL is not running: start it with `breakeven db start`")
        print(server.url(DATABASE))


@app.command("status", help="Which database is used, and whether it answers.")
def tell(json: AsJson = False) -> None:
    settings = read_settings()
    found: dict[str, object] = {"embedded": settings.database_url is None, "answers": False, "trouble": None}
    running = True
    if settings.database_url is None:
        try:
            seen = status(settings.data.absolute() / "postgres")
        except EmbeddedError as fault:
            raise SetupError(str(fault)) from fault
        running = seen.running
        found |= {"pid": seen.pid, "in_use": seen.in_use, "data": None if seen.data is None else str(seen.data)}
        found |= {"log": str(seen.log)}
    if running:
        found["trouble"] = _trouble()
        found["answers"] = found["trouble"] is None
    if json:
        write_json(found)
        return
    words = {True: "yes", False: "no", None: "–"}
    for name, value in found.items():
        shown = words[value] if value is None or isinstance(value, bool) else str(value)
        print(f"{name.replace('_', ' '):9} {shown}")


def _trouble() -> str | None:
    """What the books say when they are asked something small; None when they answer."""

    async def ask(rooms: Office) -> None:
        await rooms.rates.newest()

    try:
        in_office(ask)
    except (BooksAway, SetupError) as fault:
        return str(fault)
    return None


@contextlib.contextmanager
def _ours(settings: Settings) -> Iterator[EmbeddedPostgres]:
    """The embedded server of this data directory. Raises SetupError, also where DATABASE_URL names another server."""
    if settings.database_url is not None:
        raise SetupError("DATABASE_URL names a server that is not ours to start or stop: unset it for the embedded one")
    try:
        yield embedded(settings)
    except EmbeddedError as fault:
        raise SetupError(str(fault)) from fault
