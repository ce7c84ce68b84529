"""app.worker.cpu_server: one worker from start to stop."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import aiohttp

from tests.worker_process import MODEL, STOP_S, loading_worker, running_worker

BODY = {"model": MODEL, "prompt": "Once upon a time", "ignore_eos": True, "stream": True}


async def begun(http: aiohttp.ClientSession, max_tokens: int) -> aiohttp.ClientResponse:
    answer = await http.post("/v1/completions", json={**BODY, "max_tokens": max_tokens})
    assert answer.status == 200
    await answer.content.readline()
    return answer


async def test_a_worker_that_is_told_to_stop_ends_its_answers_first() -> None:
    with running_worker("--drain-s", "20") as (worker, process):
        engine = worker.engine_pid()
        async with aiohttp.ClientSession(worker.base_url) as http:
            answer = await begun(http, 60)
            process.send_signal(signal.SIGTERM)
            assert (await answer.content.read()).endswith(b"data: [DONE]\n\n")
        assert await asyncio.to_thread(process.wait, STOP_S) == 0
        assert not Path(f"/proc/{engine}").exists()
        assert worker.log.read_text().splitlines() == [
            f"{MODEL}: loading OpenVINO (2%)",
            f"{MODEL}: compiling the model (10%)",
            f"{MODEL}: warming up (85%)",
            f"The worker answers at {worker.base_url}",
        ]


async def test_a_worker_that_is_interrupted_twice_does_not_wait() -> None:
    with running_worker("--drain-s", "60", "--context-tokens", "4096") as (worker, process):
        async with aiohttp.ClientSession(worker.base_url) as http:
            await _knows_its_context(http)
            answer = await begun(http, 4000)
            process.send_signal(signal.SIGINT)
            # Until it has taken the first, and so has closed its door: two that it has not taken would be one.
            await asyncio.to_thread(worker.wait_for_health, None, within_s=STOP_S)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            began_s = time.monotonic()
            assert await asyncio.to_thread(process.wait, STOP_S) == 0
            assert time.monotonic() - began_s < 20
            answer.close()


async def _knows_its_context(http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/models") as answer:
        assert (await answer.json())["data"][0]["max_model_len"] == 4096
    async with http.post("/v1/completions", json={**BODY, "max_tokens": 4096}) as answer:
        assert answer.status == 400


def test_a_worker_that_is_stopped_while_it_loads_stops() -> None:
    with loading_worker() as (_, process, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_S) == 0


def test_an_engine_that_cannot_start_is_said_in_one_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF but not really")
    with running_worker("--model", str(broken), ready=False) as (worker, process):
        assert process.wait(STOP_S) == 1
        assert worker.log.read_text().splitlines()[-1].startswith("The engine could not be started: RuntimeError")


def test_a_context_that_the_model_does_not_have_is_said() -> None:
    with running_worker("--context-tokens", "9000", ready=False) as (worker, process):
        assert process.wait(STOP_S) == 1
        said = worker.log.read_text()
        assert "a context of 9000 tokens was asked for and the model has 8192: ask for no more than that" in said
