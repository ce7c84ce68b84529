from __future__ import annotations

import asyncio

import pytest

from app.flows.leash import LOOK_EVERY_S, Leashes


async def test_work_that_ends_in_time_is_left_alone() -> None:
    async with Leashes().leash(5) as leash:
        await asyncio.sleep(0)
    assert not leash.expired


async def test_work_that_takes_too_long_is_cancelled() -> None:
    leash = Leashes().leash(0.01)
    with pytest.raises(TimeoutError):
        async with leash:
            await asyncio.sleep(30)
    assert leash.expired
    assert not leash.pulled


async def test_pulling_cancels_the_work_at_once() -> None:
    leash = Leashes().leash(30)
    asyncio.get_running_loop().call_later(0.01, leash.pull)
    with pytest.raises(TimeoutError):
        async with leash:
            await asyncio.sleep(30)
    assert leash.pulled


async def test_a_leash_pulled_before_it_is_entered_cancels_at_the_first_wait() -> None:
    leash = Leashes().leash(30)
    leash.pull()
    reached = []

    async def work() -> None:
        async with leash:
            reached.append("before")
            await asyncio.sleep(30)
            reached.append("after")

    with pytest.raises(TimeoutError):
        await work()
    assert reached == ["before"]


async def test_what_comes_after_the_block_cannot_be_cancelled_by_pulling() -> None:
    leash = Leashes().leash(30)
    async with leash:
        pass
    leash.pull()
    await asyncio.sleep(0.01)
    assert leash.pulled


async def test_leashes_share_one_timer_and_each_ends_at_its_own_time() -> None:
    leashes = Leashes()
    ended = []

    async def work(total_s: float) -> None:
        try:
            async with leashes.leash(total_s):
                await asyncio.sleep(30)
        except TimeoutError:
            ended.append(total_s)

    await asyncio.gather(work(3 * LOOK_EVERY_S), work(0.0))
    assert ended == [0.0, 3 * LOOK_EVERY_S]


async def test_a_cancellation_from_outside_stays_one_even_when_the_caller_left_too() -> None:
    leash = Leashes().leash(30)
    inside = asyncio.Event()

    async def work() -> None:
        async with leash:
            inside.set()
            await asyncio.sleep(30)

    task = asyncio.create_task(work())
    await inside.wait()
    leash.pull()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
