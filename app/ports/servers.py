"""The protocols of a database whose place another may take: which one leads, and who must know."""

from __future__ import annotations

from typing import Protocol


class ServerBook(Protocol):
    """The database, asked for itself."""

    async def server(self) -> str:
        """Names what leads now: another name, another history of commits. Raises BooksAway, also if it cannot say."""
        ...


class Follower(Protocol):
    """Who has sent what to a server."""

    def server_is(self, server: str) -> bool:
        """This one leads. True when another did before: what that may have taken with it is sent again."""
        ...
