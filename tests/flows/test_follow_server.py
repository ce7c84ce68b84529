"""`app.flows.follow_server`: whoever leads is told, and what is sent again is said once."""

from __future__ import annotations

import pytest

from app.flows.follow_server import LOOK_EVERY_S, follow_server
from app.ports import BooksAway
from app.ports.servers import ServerUnnamed

AWAY = BooksAway("try again")


class Enough(Exception):
    """The test has seen what it wanted to see."""


class Servers:
    """A book that says these names in turn, or raises. And a follower that knows the last."""

    def __init__(self, *names: str | BooksAway) -> None:
        self._names = list(names)
        self.told: list[str] = []
        self.pauses: list[float] = []

    async def server(self) -> str:
        name = self._names.pop(0)
        if isinstance(name, BooksAway):
            raise name
        return name

    def server_is(self, server: str) -> bool:
        is_another = bool(self.told) and self.told[-1] != server
        self.told.append(server)
        return is_another

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if not self._names:
            raise Enough


async def test_a_change_is_noticed_once_and_books_that_are_away_change_nothing() -> None:
    servers, notices = Servers("one/1", "one/1", AWAY, AWAY, "one/2", "one/2"), list[str]()
    with pytest.raises(Enough):
        await follow_server(servers, servers, notice=notices.append, pause=servers.pause)
    assert servers.told == ["one/1", "one/1", "one/2", "one/2"]
    assert servers.pauses == [LOOK_EVERY_S] * 6
    (notice,) = notices
    assert "one/2" in notice


async def test_a_server_that_does_not_say_which_it_is_is_noticed_once() -> None:
    silent = ServerUnnamed("permission denied for function pg_control_system")
    servers, notices = Servers(silent, AWAY, silent, "one/1", silent), list[str]()
    with pytest.raises(Enough):
        await follow_server(servers, servers, notice=notices.append, pause=servers.pause)
    assert servers.told == ["one/1"]
    (notice,) = notices
    assert "permission denied for function pg_control_system" in notice
