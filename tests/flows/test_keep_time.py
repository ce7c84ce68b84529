"""`app.flows.keep_time`: the clock of a process follows that of the books, by no more than is certain."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest

from app.flows.keep_time import LOOK_EVERY_S, TOLERATED_US, keep_time, set_by_books
from app.ports import BooksAway
from app.storage.engine import Database
from app.storage.server_book import PostgresServerBook
from app.system import SteadyClock

HOUR_US = 3_600_000_000
ENOUGH_LOOKS = 8
NOON_US = 1_795_435_200_000_000


class Enough(Exception):
    """The test has seen what it wanted to see."""


@dataclass(slots=True)
class World:
    """A process and its books, each with a clock; a question is on its way for so long, and so is its answer."""

    process_us: int = NOON_US
    books_us: int = NOON_US
    asking_us: int = 0
    answering_us: int = 0
    #: So much longer the first question is on its way.
    first_us: int = 0
    #: Looks at which the books are away.
    away: set[int] = field(default_factory=set)
    #: At these looks the clock of the books jumps by so much.
    jumps_us: dict[int, int] = field(default_factory=dict)
    looks: int = 0
    notices: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    @property
    def off_us(self) -> int:
        return self.books_us - self.process_us

    def unix_us(self) -> int:
        return self.process_us

    def monotonic_s(self) -> float:
        raise AssertionError("the time of day is not told by it")

    def put_right(self, by_us: int) -> None:
        self.process_us += by_us

    async def now_us(self) -> int:
        self.looks += 1
        self.books_us += self.jumps_us.get(self.looks, 0)
        self._pass(self.asking_us + (self.first_us if self.looks == 1 else 0))
        told_us = self.books_us
        self._pass(self.answering_us)
        if self.looks in self.away:
            raise BooksAway("try again")
        return told_us

    def _pass(self, us: int) -> None:
        self.process_us += us
        self.books_us += us

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._pass(int(seconds * 1e6))
        if self.looks >= ENOUGH_LOOKS:
            raise Enough


@pytest.mark.parametrize("off_us", [HOUR_US, -HOUR_US, 24 * HOUR_US, -24 * HOUR_US, TOLERATED_US + 1])
async def test_a_clock_that_is_wrong_is_put_right_and_that_is_said_once(off_us: int) -> None:
    world = World(books_us=NOON_US + off_us)
    for _ in range(2):
        await set_by_books(world, world, notice=world.notices.append)
    assert world.off_us == 0
    (notice,) = world.notices
    assert f"{abs(off_us) / 1e6:.1f} s {'behind' if off_us > 0 else 'ahead of'} Postgres" in notice


@pytest.mark.parametrize("off_us", [0, TOLERATED_US, -TOLERATED_US])
async def test_clocks_that_agree_are_left_alone(off_us: int) -> None:
    world = World(books_us=NOON_US + off_us)
    await set_by_books(world, world, notice=world.notices.append)
    assert (world.off_us, world.notices) == (off_us, [])


@pytest.mark.parametrize(("asking_us", "answering_us"), [(9_000_000, 0), (0, 9_000_000), (4_000_000, 5_000_000)])
async def test_an_answer_that_was_long_on_its_way_makes_no_right_clock_wrong_and_a_wrong_one_better(
    asking_us: int, answering_us: int
) -> None:
    right = World(asking_us=asking_us, answering_us=answering_us)
    await set_by_books(right, right, notice=right.notices.append)
    assert (right.off_us, right.notices) == (0, [])
    for off_us in (HOUR_US, -HOUR_US):
        wrong = World(books_us=NOON_US + off_us, asking_us=asking_us, answering_us=answering_us)
        await set_by_books(wrong, wrong, notice=wrong.notices.append)
        assert abs(wrong.off_us) <= asking_us + answering_us
        wrong.asking_us = wrong.answering_us = 0
        await set_by_books(wrong, wrong, notice=wrong.notices.append)
        assert abs(wrong.off_us) <= TOLERATED_US


async def test_what_a_slow_question_left_wrong_is_put_right_by_the_next_answer_and_said_as_one() -> None:
    for off_us in (HOUR_US, -HOUR_US):
        world = World(books_us=NOON_US + off_us, first_us=2_000_000)
        await set_by_books(world, world, notice=world.notices.append)
        assert (world.off_us, len(world.notices)) == (0, 1)
        assert "3600.0 s" in world.notices[0]


async def test_what_was_put_right_is_said_though_the_books_go_away_before_they_are_asked_again() -> None:
    world = World(books_us=NOON_US + HOUR_US, away={2})
    with pytest.raises(BooksAway):
        await set_by_books(world, world, notice=world.notices.append)
    assert (world.off_us, len(world.notices)) == (0, 1)


async def test_it_follows_the_books_for_ever_and_goes_on_by_itself_while_they_are_away() -> None:
    """The fifth and the eighth answer say that the clock, put right, is right."""
    world = World(away={1, 2, 6}, jumps_us={4: HOUR_US, 6: -HOUR_US})
    with pytest.raises(Enough):
        await keep_time(world, world, notice=world.notices.append, pause=world.pause)
    assert world.pauses == [LOOK_EVERY_S] * 7
    assert world.off_us == 0
    assert [" behind " in notice for notice in world.notices] == [True, False]


async def test_books_that_are_away_are_no_reason_to_change_the_clock() -> None:
    world = World(books_us=NOON_US + HOUR_US, away={1})
    with pytest.raises(BooksAway):
        await set_by_books(world, world, notice=world.notices.append)
    assert (world.off_us, world.notices) == (HOUR_US, [])


async def test_the_real_clock_and_the_real_books_come_to_agree(database: Database) -> None:
    clock, notices = SteadyClock(), list[str]()
    clock.put_right(-24 * HOUR_US)
    for _ in range(2):
        await set_by_books(PostgresServerBook(database), clock, notice=notices.append)
    assert abs(clock.unix_us() - time.time_ns() // 1000) < 60_000_000
    assert notices[0].startswith("the clock of this process was 864")
    assert " behind " in notices[0]
    assert all(float(again.split(" was ")[1].split(" s ")[0]) < 60 for again in notices[1:]), "it was put right once"
