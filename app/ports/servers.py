"""The protocols of a database whose place another may take: which one leads, what time it has, and who must know."""

from __future__ import annotations

from typing import Protocol

from app.ports import BooksAway


class ServerUnnamed(BooksAway):
    """It answers, but does not tell this user which server it is, and will not until somebody mends that."""


class ServerBook(Protocol):
    """The database, asked for itself."""

    async def server(self) -> str:
        """Names what leads now: another name, perhaps another history of commits; the same name, surely the same.
        Raises BooksAway, and ServerUnnamed if it cannot say."""
        ...


class ServerClock(Protocol):
    """The database's clock, by which everything expires."""

    async def now_us(self) -> int:
        """Unix microseconds, of some moment between the question and its answer. Raises BooksAway."""
        ...


class Follower(Protocol):
    """Who has sent what to a server."""

    def server_is(self, server: str) -> bool:
        """This one leads. True when another did before: what that may have taken with it is sent again."""
        ...
