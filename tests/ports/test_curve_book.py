"""`app.storage.curve_book` and its fake both are what `app.ports.curves` says."""

from __future__ import annotations

import asyncio

import pytest

from app.storage.curve_book import PostgresCurveBook
from app.storage.engine import Database
from tests.books import Reachable, said
from tests.fakes.curve_book import MemoryCurveBook
from tests.ports.curve_book_suite import CurveBookAtHand, CurveBookSuite, learned


class TestTheBookInPostgres(CurveBookSuite):
    @pytest.fixture
    def at_hand(self, database: Database, books_url: str) -> CurveBookAtHand:
        reachable = Reachable(books_url)

        async def grow_older(age_s: float) -> None:
            await said(books_url, "update service_curve set learned_at = learned_at - make_interval(secs => $1)", age_s)

        return CurveBookAtHand(
            book=PostgresCurveBook(database),
            grow_older=grow_older,
            take_away=reachable.take_away,
            bring_back=reachable.bring_back,
        )

    async def test_of_many_processes_at_once_the_one_with_most_answers_is_kept(self, at_hand: CurveBookAtHand) -> None:
        names = [f"target {number}" for number in range(6)]
        async with asyncio.TaskGroup() as group:
            for turn in range(12):
                order = names if turn % 2 else names[::-1]
                group.create_task(at_hand.book.keep([learned(name, answers=20 - turn) for name in order]))
        assert [each.curve for each in await at_hand.book.kept()] == [learned(name, answers=20) for name in names]


class TestTheBookInMemory(CurveBookSuite):
    @pytest.fixture
    def at_hand(self) -> CurveBookAtHand:
        book = MemoryCurveBook()

        async def grow_older(age_s: float) -> None:
            book.now_s += age_s

        async def take_away() -> None:
            book.away = True

        async def bring_back() -> None:
            book.away = False

        return CurveBookAtHand(book=book, grow_older=grow_older, take_away=take_away, bring_back=bring_back)
