"""The books, opened for the length of one command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.bootstrap.office import Office, office
from app.bootstrap.postgres import DATABASE, embedded
from app.settings import Settings, read_settings
from app.storage.embedded_errors import EmbeddedError

Result = TypeVar("Result")


def in_office(work: Callable[[Office], Awaitable[Result]]) -> Result:
    """Do `work` with the books open. Raises what it raises, SetupError when they cannot be opened, and BooksAway."""

    async def opened() -> Result:
        async with office(as_a_guest(read_settings())) as rooms:
            return await work(rooms)

    return asyncio.run(opened())


def as_a_guest(settings: Settings) -> Settings:
    """The settings, with the URL of the embedded server while that one runs.

    A command is then no user of the server: it neither keeps it up nor stops it when it leaves as the last one, and
    so a server that `db start` left running stays.
    """
    if settings.database_url is not None:
        return settings
    try:
        server = embedded(settings)
        alive = server.is_alive()
    except EmbeddedError:
        return settings  # whoever opens the books says why
    return settings.model_copy(update={"database_url": server.url(DATABASE)}) if alive else settings
