"""`app.flows.sweep`: leases lapse whoever sweeps, and books that are away are tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from app.flows.sweep import SWEEP_EVERY_S, sweep_leases
from tests.fakes.budget_book import MemoryBudgetBook
from tests.ports.budget_book_suite import wanting


class _Enough(Exception):
    """The test has seen what it wanted to see."""


class World:
    """Time that passes while others pause; `book` has one lease of 100."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.pauses: list[float] = []
        self.book = MemoryBudgetBook(now_us=lambda: round(self.now_s * 1_000_000), lease_s=12.0)
        self.at_pause: Callable[[], None] = lambda: None

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds
        self.at_pause()
        if len(self.pauses) > 4:
            raise _Enough
        await asyncio.sleep(0)

    async def lost(self) -> int:
        (standing,) = await self.book.standings([wanting()])
        assert standing is not None
        return standing.lost


async def swept(world: World, *, jitter: float = 0.5) -> None:
    await world.book.lease([wanting(need=100)], holder="h")
    with pytest.raises(_Enough):
        await sweep_leases(world.book, jitter=lambda: jitter, pause=world.pause)


@pytest.mark.parametrize(("jitter", "every_s"), [(0.0, 0.5), (0.5, 1.0), (0.999, 1.499)])
async def test_it_sweeps_every_few_seconds_and_every_process_at_another_time(jitter: float, every_s: float) -> None:
    world = World()
    await swept(world, jitter=jitter)
    assert world.pauses == pytest.approx([SWEEP_EVERY_S * every_s] * 5)


async def test_a_lease_is_lost_with_the_first_sweep_after_its_time() -> None:
    world = World()
    seen: list[int] = []

    def look() -> None:
        (kept,) = world.book.kept.values()
        seen.append(kept.account.standing().lost)

    world.at_pause = look
    await swept(world)
    assert seen == [0, 0, 0, 100, 100]


async def test_books_that_are_away_are_swept_when_they_are_back() -> None:
    world = World()

    def come_and_go() -> None:
        world.book.away = len(world.pauses) < 4

    world.at_pause = come_and_go
    await swept(world)
    assert await world.lost() == 100


async def test_it_ends_when_it_is_cancelled() -> None:
    async def pause(seconds: float) -> None:
        await asyncio.sleep(0)

    pausing: Callable[[float], Awaitable[None]] = pause
    task = asyncio.create_task(sweep_leases(MemoryBudgetBook(), jitter=lambda: 0.0, pause=pausing))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
