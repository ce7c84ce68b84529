"""One timer for many waits, and the second look before a wait is over, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import time
from collections.abc import Iterator

import pytest

from app.ports.deadline import Deadline, Within


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Our end of a line, and theirs."""
    with contextlib.ExitStack() as sockets:
        ours, theirs = map(sockets.enter_context, socket.socketpair())
        ours.setblocking(False)
        yield ours, theirs


async def within(seconds: float, ours: socket.socket) -> bytes:
    async with Within(seconds):
        return await asyncio.get_running_loop().sock_recv(ours, 1)


async def test_what_came_while_the_loop_stood_still_came_in_time(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    receiving = asyncio.create_task(within(0.1, ours))
    await asyncio.sleep(0)
    theirs.send(b"x")
    time.sleep(0.3)
    assert await receiving == b"x"


async def test_what_did_not_come_is_a_timeout(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await within(0.1, ours)
    assert asyncio.get_running_loop().time() - began_s >= 0.1


async def test_nothing_is_left_to_the_collector(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            theirs.send(b"x")
            await within(60, ours)
        assert not [each for each in gc.get_objects() if isinstance(each, Within | Deadline)]
    finally:
        gc.enable()


async def test_who_is_cancelled_meanwhile_is_cancelled_and_not_out_of_time(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, _ = pair
    receiving = asyncio.create_task(within(60, ours))
    await asyncio.sleep(0)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving


async def until_rang(rang: list[float], count: int = 1) -> None:
    async with asyncio.timeout(15):
        while len(rang) < count:
            await asyncio.sleep(0.005)


async def test_it_rings_once_at_the_moment_set() -> None:
    loop = asyncio.get_running_loop()
    rang: list[float] = []
    deadline = Deadline(loop, lambda: rang.append(loop.time()))
    due_s = loop.time() + 0.1
    deadline.move(due_s)
    await until_rang(rang)
    assert rang[0] >= due_s - 0.01
    await asyncio.sleep(0.15)
    assert len(rang) == 1


async def test_a_moment_moved_away_rings_later_and_one_moved_near_rings_sooner() -> None:
    loop = asyncio.get_running_loop()
    rang: list[float] = []
    deadline = Deadline(loop, lambda: rang.append(loop.time()))
    began_s = loop.time()
    deadline.move(began_s + 0.1)
    deadline.move(began_s + 0.3)
    await until_rang(rang)
    assert rang[0] >= began_s + 0.3 - 0.01
    deadline.move(loop.time() + 60)
    deadline.move(loop.time() + 0.1)
    await until_rang(rang, 2)


async def test_no_moment_and_a_stop_ring_never() -> None:
    loop = asyncio.get_running_loop()
    rang: list[float] = []
    taken_back, stopped = (Deadline(loop, lambda: rang.append(loop.time())) for _ in range(2))
    for deadline in (taken_back, stopped):
        deadline.move(loop.time() + 0.05)
    taken_back.move(None)
    stopped.stop()
    await asyncio.sleep(0.15)
    assert rang == []


async def test_it_can_be_set_again_after_it_rang() -> None:
    loop = asyncio.get_running_loop()
    rang: list[float] = []
    deadline = Deadline(loop, lambda: rang.append(loop.time()))
    for number in (1, 2):
        deadline.move(loop.time() + 0.03)
        await until_rang(rang, number)
    await asyncio.sleep(0.1)
    assert len(rang) == 2
