from __future__ import annotations

import asyncio

import pytest

from app.flows.leash import Leash


async def test_work_that_ends_in_time_is_left_alone() -> None:
    async with Leash(5) as leash:
        await asyncio.sleep(0)
    assert not leash.expired


async def test_work_that_takes_too_long_is_cancelled() -> None:
    leash = Leash(0.01)
    with pytest.raises(TimeoutError):
        async with leash:
            await asyncio.sleep(30)
    assert leash.expired
    assert not leash.pulled


async def test_pulling_cancels_the_work_at_once() -> None:
    leash = Leash(30)
    asyncio.get_running_loop().call_later(0.01, leash.pull)
    with pytest.raises(TimeoutError):
        async with leash:
            await asyncio.sleep(30)
    assert leash.pulled


async def test_a_leash_pulled_before_it_is_entered_cancels_at_the_first_wait() -> None:
    leash = Leash(30)
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
    leash = Leash(30)
    async with leash:
        pass
    leash.pull()
    await asyncio.sleep(0.01)
    assert leash.pulled
