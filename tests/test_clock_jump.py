"""The library that moves wall clocks, seen from what the gateway is made of: CPython, uvloop, asyncpg, PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from tests.books import said
from tests.clock_jump import MovableClock, clock_library, movable_clock
from tests.postgres import own_server

__all__ = ["clock_library", "movable_clock"]

JUMPS_S = (3600, -3600, 86_400, -86_400, 0)
#: Reads lines; after each it sleeps, asks Postgres, and tells what every clock reads.
CHILD = """
import asyncio, datetime, email.utils, json, sys, time
import asyncpg, uvloop

async def main():
    loop = asyncio.get_running_loop()
    connection = await asyncpg.connect(sys.argv[1], command_timeout=5)
    print("ready", flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        began = time.monotonic()
        async with asyncio.timeout(5):
            await asyncio.sleep(0.05)
        postgres = await connection.fetchval("select extract(epoch from clock_timestamp())::float8 from pg_sleep(0.05)")
        print(json.dumps({
            "time": time.time(), "ns": time.time_ns() / 1e9, "now": datetime.datetime.now().timestamp(),
            "real": time.clock_gettime(time.CLOCK_REALTIME), "tai": time.clock_gettime(time.CLOCK_TAI),
            "date": email.utils.mktime_tz(email.utils.parsedate_tz(email.utils.formatdate())),
            "monotonic": time.monotonic(), "boot": time.clock_gettime(time.CLOCK_BOOTTIME), "loop": loop.time(),
            "postgres": postgres, "slept": time.monotonic() - began,
        }), flush=True)

uvloop.run(main())
"""
WALL = ("time", "ns", "now", "real", "date")
STEADY = ("monotonic", "boot", "loop")
#: A clock that did not follow a jump is off by an hour, one that runs on by what the test takes.
NEAR_S = 60.0


@asynccontextmanager
async def a_child(clock: MovableClock, url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD, url),
        env={**os.environ, **clock.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"ready\n"
        yield child
    finally:
        child.kill()
        await child.wait()


async def what_it_reads(child: asyncio.subprocess.Process, clock: MovableClock, ahead_s: int) -> dict[str, float]:
    """After a jump in the middle of its sleep."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(b"\n")
    await asyncio.sleep(0.02)
    clock.jump_to(timedelta(seconds=ahead_s))
    async with asyncio.timeout(30):
        told: dict[str, float] = json.loads(await child.stdout.readline())
    return told


async def test_wall_clocks_jump_and_no_other_clock_timer_or_timeout_does(
    movable_clock: MovableClock, books_url: str
) -> None:
    async with a_child(movable_clock, books_url) as child:
        first = await what_it_reads(child, movable_clock, 0)
        for ahead_s in JUMPS_S:
            then = await what_it_reads(child, movable_clock, ahead_s)
            assert {name: then[name] - first[name] for name in WALL} == {
                name: pytest.approx(ahead_s, abs=NEAR_S) for name in WALL
            }
            assert then["tai"] - first["tai"] == pytest.approx(ahead_s, abs=NEAR_S)
            assert {name: then[name] - first[name] for name in (*STEADY, "postgres")} == {
                name: pytest.approx(0, abs=NEAR_S) for name in (*STEADY, "postgres")
            }
            assert all(first[name] < then[name] for name in STEADY)
            assert 0.1 <= then["slept"] < NEAR_S


async def test_a_server_started_with_it_has_its_time(movable_clock: MovableClock) -> None:
    now = "select extract(epoch from clock_timestamp() - pg_postmaster_start_time())::float8 as since_start_s"
    with own_server() as own:
        await asyncio.to_thread(own.restart, movable_clock.environment)

        async def since_start_s() -> Any:
            (row,) = await said(own.server.url("postgres"), now)
            return row["since_start_s"]

        for ahead_s in JUMPS_S:
            movable_clock.jump_to(timedelta(seconds=ahead_s))
            assert await since_start_s() == pytest.approx(ahead_s, abs=NEAR_S)


def test_without_a_file_to_read_nothing_runs_as_if_its_clock_were_moved(movable_clock: MovableClock) -> None:
    environment = {**os.environ, **movable_clock.environment, "CLOCK_JUMP_FILE": str(movable_clock.file) + ".gone"}
    program = [sys.executable, "-c", "print(1)"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (70, "")
    assert "CLOCK_JUMP_FILE" in done.stderr
