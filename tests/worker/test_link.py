"""app.worker.link: an engine that dies, hangs, or outlives nobody; and a queue that is full."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from app.worker.engine_process import EngineStart
from app.worker.link import engine_command, environment
from tests.worker_process import MODEL, POLL_S, CpuWorker, loading_worker, running_worker

ENDLESS = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 4000, "ignore_eos": True}
SHORT = {"model": MODEL, "prompt": "The capital of France is", "temperature": 0, "max_tokens": 2}
#: Backoff, a new process, and loading the model, on a slow and busy machine.
RECOVERS_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def small_worker() -> Iterator[CpuWorker]:
    """Two answers at a time, three in all, and little patience with its engine."""
    with running_worker("--max-num-seqs", "2", "--max-num-queued-reqs", "3", "--stall-limit-s", "10") as (worker, _):
        yield worker


@pytest.fixture
async def small(small_worker: CpuWorker) -> AsyncIterator[aiohttp.ClientSession]:
    await asyncio.to_thread(small_worker.wait_for_health, 200, within_s=RECOVERS_WITHIN_S)
    async with aiohttp.ClientSession(small_worker.base_url) as session:
        yield session


async def gauges(http: aiohttp.ClientSession) -> tuple[float, float]:
    async with http.get("/metrics") as answer:
        lines = (await answer.text()).splitlines()
    found = {
        line.split("{")[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("vllm:num_requests_")
    }
    return found["vllm:num_requests_running"], found["vllm:num_requests_waiting"]


async def until(http: aiohttp.ClientSession, wanted: tuple[float, float]) -> None:
    give_up = time.monotonic() + 20
    while (seen := await gauges(http)) != wanted:
        assert time.monotonic() < give_up, f"running and waiting are {seen}, not {wanted}"
        await asyncio.sleep(0.02)


async def answer(http: aiohttp.ClientSession, body: dict[str, Any]) -> tuple[int, str]:
    async with http.post("/v1/completions", json=body) as reply:
        return reply.status, await reply.text()


async def test_a_full_queue_is_refused_before_a_stream_begins(small: aiohttp.ClientSession) -> None:
    loop = asyncio.get_running_loop()
    calls = [loop.create_task(answer(small, {**ENDLESS, "stream": stream})) for stream in (True, False, True)]
    await until(small, (2, 1))
    for stream in (True, False):
        status, text = await answer(small, {**SHORT, "stream": stream})
        assert status == 503
        error = json.loads(text)["error"]
        assert error["message"].startswith("The engine is currently busy and cannot accept new requests.")
        assert (error["type"], error["param"], error["code"]) == ("Service Unavailable", None, 503)
    async with small.get("/metrics") as reply:
        assert (
            f'admission_rejections_total{{model_name="{MODEL}",reason="max_num_queued_reqs"}} 2.0' in await reply.text()
        )
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await until(small, (0, 0))
    assert (await answer(small, SHORT))[0] == 200


async def test_choices_count_one_by_one_against_the_queue(small: aiohttp.ClientSession) -> None:
    assert (await answer(small, {**SHORT, "n": 4}))[0] == 503
    assert (await answer(small, {**SHORT, "n": 3}))[0] == 200


async def test_an_engine_that_is_killed_fails_its_answers_and_is_replaced(
    small: aiohttp.ClientSession, small_worker: CpuWorker
) -> None:
    loop = asyncio.get_running_loop()
    calls = [loop.create_task(answer(small, {**ENDLESS, "stream": stream})) for stream in (True, False)]
    await until(small, (2, 0))
    await asyncio.sleep(0.3)
    engine = small_worker.engine_pid()
    assert engine is not None
    successor = await _replaced_by_one_that_loads(small_worker, engine)
    (streamed, text), (status, body) = await asyncio.gather(*calls)
    assert streamed == 200
    *_, last, done = [event for event in text.split("\n\n") if event]
    assert done == "data: [DONE]"
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == 500
    assert (status, json.loads(body)["error"]["type"]) == (500, "InternalServerError")
    assert small_worker.health() == 503
    assert await gauges(small) == (0, 0)
    assert (await answer(small, SHORT))[0] == 503
    async with small.post("/tokenize", json={"prompt": "x"}) as reply:
        assert reply.status == 503
    os.kill(successor, signal.SIGCONT)
    await asyncio.to_thread(small_worker.wait_for_health, 200, within_s=RECOVERS_WITHIN_S)
    status, body = await answer(small, SHORT)
    assert (status, json.loads(body)["choices"][0]["text"].startswith(" Paris")) == (200, True)
    assert small_worker.engine_pid() == successor != engine


async def _replaced_by_one_that_loads(worker: CpuWorker, engine: int) -> int:
    """Kill the engine, and hold its successor up while it loads."""
    for _ in range(5):
        os.kill(engine, signal.SIGKILL)
        give_up = time.monotonic() + RECOVERS_WITHIN_S
        while (successor := worker.engine_pid()) in {None, engine}:
            assert time.monotonic() < give_up, worker.log.read_text()
            await asyncio.sleep(POLL_S)
        assert successor is not None
        os.kill(successor, signal.SIGSTOP)
        if await asyncio.to_thread(worker.health) == 503:
            return successor
        engine = successor  # it was faster than we
    raise AssertionError("no engine was met while it loads")


async def test_an_engine_that_hangs_is_killed_and_replaced(
    small: aiohttp.ClientSession, small_worker: CpuWorker
) -> None:
    engine = small_worker.engine_pid()
    assert engine is not None
    os.kill(engine, signal.SIGSTOP)
    status, _ = await answer(small, SHORT)
    assert status == 500
    await asyncio.to_thread(small_worker.wait_for_health, 200, within_s=RECOVERS_WITHIN_S)
    assert (await answer(small, SHORT))[0] == 200
    assert small_worker.engine_pid() != engine


def test_a_worker_that_is_killed_leaves_no_engine_behind() -> None:
    """Killed while the engine loads, which is when it listens to nobody."""
    with loading_worker() as (_, process, engine):
        process.kill()
        process.wait()
        give_up = time.monotonic() + 20
        while Path(f"/proc/{engine}").exists():
            assert time.monotonic() < give_up, "the engine is still there"
            time.sleep(POLL_S)


def test_the_engine_finds_the_package_wherever_the_worker_was_started() -> None:
    start = EngineStart(weights=Path("w.gguf"), context_tokens=1, max_num_seqs=1, threads=1, cache_gb=1, parent=7)
    command = engine_command(start, descriptor=9)
    assert command[1:5] == ["-P", "-m", "app.worker.engine_process", "9"]
    assert json.loads(command[5])["weights"] == "w.gguf"
    assert str(Path(__file__).parents[2]) in environment()["PYTHONPATH"].split(os.pathsep)
