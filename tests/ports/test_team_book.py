"""`app.storage.team_book` and its fake both are what `app.ports.keys.TeamBook` says."""

from __future__ import annotations

import pytest

from app.storage.engine import Database
from app.storage.team_book import PostgresTeamBook
from tests.books import Reachable
from tests.fakes.team_book import MemoryTeamBook
from tests.ports.team_book_suite import TeamBookAtHand, TeamBookSuite


class TestTheBookInPostgres(TeamBookSuite):
    @pytest.fixture
    def at_hand(self, database: Database, books_url: str) -> TeamBookAtHand:
        reachable = Reachable(books_url)
        return TeamBookAtHand(
            book=PostgresTeamBook(database), take_away=reachable.take_away, bring_back=reachable.bring_back
        )


class TestTheBookInMemory(TeamBookSuite):
    @pytest.fixture
    def at_hand(self) -> TeamBookAtHand:
        book = MemoryTeamBook()

        async def take_away() -> None:
            book.away = True

        async def bring_back() -> None:
            book.away = False

        return TeamBookAtHand(book=book, take_away=take_away, bring_back=bring_back)
