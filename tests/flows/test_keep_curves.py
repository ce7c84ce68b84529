from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

import pytest

from app.domain.metering.meter import Meter
from app.domain.usage import Usage
from app.flows.keep_curves import EVERY_S, SPREAD, CurveKeeper
from app.live.fleet import Fleet
from app.ports import BooksAway
from app.storage.curve_book import PostgresCurveBook
from app.storage.engine import Database
from app.system import SystemClock
from tests.books import said
from tests.fakes.curve_book import MemoryCurveBook
from tests.makers import a_policy, a_target


@dataclass(slots=True)
class _Process:
    """A fleet and who keeps what it learns."""

    book: MemoryCurveBook | PostgresCurveBook
    fleet: Fleet = field(default_factory=lambda: Fleet(has_credential=lambda name: True))
    keeper: CurveKeeper = field(init=False)
    notices: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fleet.follow(a_policy())
        self.keeper = CurveKeeper(
            self.book, self.fleet, clock=SystemClock(), jitter=lambda: 0.5, notice=self.notices.append
        )

    def answers(self, number: int, *, target: str = "home") -> None:
        for each in range(number):
            meter, prompt = Meter(started_s=0, prompt_estimate=0), 100 * (1 + each % 5)
            self.fleet.entered(target, at_s=0, prompt_tokens=prompt, meter=meter, streamed=True)
            usage = Usage(prompt=prompt, output=9)
            self.fleet.left(target, at_s=0, answered=True, ttft_s=prompt / 500, tpot_s=0.01, usage=usage, meter=meter)

    @property
    def known(self) -> float:
        """How many answers it knows of."""
        return sum(curve.fit.answers for curve in self.fleet.learned())


class _Counting(MemoryCurveBook):
    """Counts what is written."""

    written = 0

    async def keep(self, curves: object) -> None:
        self.written += 1
        await super().keep(curves)  # type: ignore[arg-type]


async def test_the_next_process_knows_what_the_one_before_learned(database: Database) -> None:
    before, after = (_Process(PostgresCurveBook(database)) for _ in range(2))
    before.answers(12)
    await before.keeper.recall()
    await before.keeper.offer()
    await after.keeper.recall()
    assert after.known == pytest.approx(before.known, rel=1e-3)


async def test_only_news_is_written_and_what_was_taken_up_is_none() -> None:
    book = _Counting()
    one, other = _Process(book), _Process(book)
    for _ in range(3):
        await one.keeper.offer()
    assert book.written == 0
    one.answers(9)
    for _ in range(3):
        await one.keeper.offer()
    assert book.written == 1
    await other.keeper.recall()
    await other.keeper.offer()
    assert book.written == 1
    other.answers(1)
    await other.keeper.offer()
    assert book.written == 2


async def test_news_that_could_not_be_written_is_written_when_the_books_are_back() -> None:
    book = MemoryCurveBook()
    process = _Process(book)
    process.answers(5)
    book.away = True
    with pytest.raises(BooksAway):
        await process.keeper.offer()
    book.away = False
    await process.keeper.offer()
    assert [each.curve.fit.answers for each in await book.kept()] == [process.known]


async def test_a_process_that_started_while_the_books_were_away_reads_later() -> None:
    book = MemoryCurveBook()
    old, new = _Process(book), _Process(book)
    old.answers(20)
    await old.keeper.offer()
    book.away = True
    new.answers(1)
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            book.away = False
        if len(pauses) == 4:
            raise asyncio.CancelledError

    with contextlib.suppress(asyncio.CancelledError):
        await new.keeper.keep(pause=pause)
    assert new.known == pytest.approx(old.known)
    assert pauses == [EVERY_S] * 4


@pytest.mark.parametrize(("drawn", "wait_s"), [(0.0, EVERY_S * (1 - SPREAD)), (1.0, EVERY_S * (1 + SPREAD))])
async def test_processes_do_not_look_all_at_once(drawn: float, wait_s: float) -> None:
    process = _Process(MemoryCurveBook())
    keeper = CurveKeeper(process.book, process.fleet, clock=SystemClock(), jitter=lambda: drawn)
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        raise asyncio.CancelledError

    with contextlib.suppress(asyncio.CancelledError):
        await keeper.keep(pause=pause)
    assert pauses == [pytest.approx(wait_s)]


async def test_processes_that_saw_little_take_up_what_another_saw_and_none_loses_what_it_saw() -> None:
    book = MemoryCurveBook()
    crew = [_Process(book) for _ in range(4)]
    for process, answers in zip(crew, (40, 30, 5, 0), strict=True):
        process.answers(answers)
    for _ in range(2):
        for process in crew:
            await process.keeper.recall()
            await process.keeper.offer()
    most, much, *few = [process.known for process in crew]
    assert most > much
    assert few == [pytest.approx(most)] * 2
    assert [each.curve.fit.answers for each in await book.kept()] == [most]


async def turns(process: _Process, number: int) -> None:
    """It looks so often."""
    left = number

    async def pause(seconds: float) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise asyncio.CancelledError

    with contextlib.suppress(asyncio.CancelledError):
        await process.keeper.keep(pause=pause)


@pytest.mark.parametrize(
    "absurd",
    [
        "prefill_weight = 50, prefill_x = 1e200",
        "prefill_weight = 1e300",
        "prefill_xy = '-infinity'",
        "steps_y = 1e9",
        "output_tokens = 1e300",
        "ttft_ms = 1e30",
        "learned_at = '-infinity'",
    ],
)
async def test_a_row_that_makes_no_sense_is_left_out_said_once_and_replaced(
    database: Database, books_url: str, absurd: str
) -> None:
    before, after = (_Process(PostgresCurveBook(database)) for _ in range(2))
    before.answers(12)
    await before.keeper.offer()
    await said(books_url, f"update service_curve set {absurd}")
    await turns(after, 3)
    is_old = "learned_at" in absurd
    assert after.known == pytest.approx(0)
    assert len(after.notices) == (0 if is_old else 1), after.notices
    assert is_old or "'home'" in after.notices[0]
    after.answers(120)
    await turns(after, 1)
    (kept,) = await PostgresCurveBook(database).kept()
    assert kept.curve.is_sane
    assert kept.curve.fit.answers == pytest.approx(after.known)


async def test_what_postgres_refuses_of_one_target_is_said_once_and_keeps_nothing_of_the_others_out(
    database: Database,
) -> None:
    book = PostgresCurveBook(database)
    process = _Process(book)
    process.fleet.follow(a_policy(a_target("home"), a_target("odd", model="odd\0")))
    for _ in range(3):
        process.answers(5)
        process.answers(5, target="odd")
        await turns(process, 1)
    assert [each.curve.of.target for each in await book.kept()] == ["home"]
    (notice,) = process.notices
    assert "'odd'" in notice
