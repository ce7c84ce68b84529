"""First tokens are predicted, engines are shared, and nothing goes to a model that the policy does not mean."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from app.domain.metering.measurement import Outcome
from app.domain.routing.plan import Plan, Refusal
from app.telemetry import names
from tests.books import said
from tests.engines.loaded import LoadedEngine
from tests.gateway_process import GatewayProcess
from tests.worker_process import CpuWorker, cpu_worker

__all__ = ["cpu_worker"]

ASK: dict[str, Any] = {"model": "chat", "stream": True, "max_tokens": 12}
LIMIT = 16
PROCESSES = 4
POLICY = """
targets:
  ours:
    hosting: self_hosted
    engine: {family}
    url: {url}
    model: {model}
    can: [chat]
    limits: {{in_flight: {limit}}}
    machine: {{type: box, count: 1}}
models:
  chat:
    timeouts: {{connect_s: 5, first_token_s: 60, idle_s: 60, total_s: 120}}
    rules: [{{name: all, use: [ours]}}]
rates:
  machines:
    box: {{usd_per_hour: 1}}
  targets:
    ours: {{measured: {{prefill_tokens_per_s: 900, decode_tokens_per_s: 300}}}}
"""


@pytest.fixture
async def engine() -> AsyncIterator[LoadedEngine]:
    async with LoadedEngine() as running:
        yield running


@pytest.fixture
def gateways(tmp_path: Path, books_url: str) -> Iterator[list[GatewayProcess]]:
    """Those that were opened, to be stopped."""
    opened: list[GatewayProcess] = []
    yield opened
    for gateway in opened:
        gateway.stop()


async def _open(
    opened: list[GatewayProcess], tmp_path: Path, books_url: str, *, url: str, family: str, model: str, workers: int = 1
) -> GatewayProcess:
    """A gateway in front of one machine of ours, and of nobody else."""
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "all.yaml").write_text(POLICY.format(url=url, family=family, model=model, limit=LIMIT))
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    gateway = GatewayProcess(data=data, policies=policies, database_url=books_url, workers=workers)
    opened.append(gateway)
    await gateway.start()
    return gateway


async def _ask(session: aiohttp.ClientSession, prompt: str = "Say something.") -> int:
    messages = [{"role": "user", "content": prompt}]
    async with session.post("/v1/chat/completions", json={**ASK, "messages": messages}) as answer:
        await answer.read()
        return answer.status


async def test_after_some_answers_of_a_real_engine_first_tokens_are_predicted_and_the_error_is_told(
    gateways: list[GatewayProcess], tmp_path: Path, books_url: str, cpu_worker: CpuWorker
) -> None:
    gateway = await _open(
        gateways, tmp_path, books_url, url=f"{cpu_worker.base_url}/v1", family="openvino", model=cpu_worker.model
    )
    async with gateway.session() as session:
        for number in range(4):
            assert await _ask(session, f"Story {number}. " + "Tell me of the sea. " * (5 + 40 * (number % 2))) == 200
        together = [_ask(session, f"Tale {number}. " + "Tell me of the hills. " * (10 * number)) for number in range(4)]
        assert await asyncio.gather(*together) == [200] * 4
        for number in range(2):
            assert await _ask(session, f"Song {number}. " + "Tell me of the woods. " * (10 + 40 * number)) == 200
    receipts = sorted(await gateway.receipts(10), key=lambda receipt: receipt.at_us)
    first, long, short = receipts[0], receipts[-1], receipts[-2]
    assert first.decision.candidates[0].expected_ttft_ms is None
    for receipt in (long, short):
        assert isinstance(receipt.decision, Plan)
        assert receipt.attempts[0].ttft_s is not None
        (candidate,) = receipt.decision.candidates
        assert candidate.seen.prefill_tokens_per_s is not None
        assert candidate.seen.age_s is not None
        assert candidate.predicted_ttft_ms is not None
        print(f"predicted {candidate.predicted_ttft_ms:.0f} ms, was {1000 * receipt.attempts[0].ttft_s:.0f} ms")
    assert (long.decision.candidates[0].predicted_ttft_ms or 0) > (short.decision.candidates[0].predicted_ttft_ms or 0)
    (text,) = await gateway.metrics()
    assert f'{names.TTFT_ERROR.name}_count{{target="ours"}}'.encode() in text


async def test_four_processes_together_keep_to_what_an_engine_can_take(
    gateways: list[GatewayProcess], tmp_path: Path, books_url: str, engine: LoadedEngine
) -> None:
    gateway = await _open(
        gateways, tmp_path, books_url, url=engine.url, family="vllm", model=engine.model, workers=PROCESSES
    )
    begun, over_s = time.monotonic(), 5.0
    statuses: list[int] = []
    settled: list[int] = []

    async def caller() -> None:
        while time.monotonic() < begun + over_s:
            # A connection of its own each time: the processes share the listener.
            async with gateway.session() as session:
                statuses.append(await _ask(session))
            await asyncio.sleep(0.02)

    async def watcher() -> None:
        while time.monotonic() < begun + over_s:
            await asyncio.sleep(0.02)
            if time.monotonic() > begun + over_s / 2:
                settled.append(engine.in_flight)

    async with asyncio.TaskGroup() as group:
        for _ in range(4 * LIMIT):
            group.create_task(caller())
        group.create_task(watcher())
    print(f"at most {engine.most} at once, {max(settled)} once settled, {sum(settled) / len(settled):.1f} on average")
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) > LIMIT
    # A process that comes to a full engine begins its even part before the others have given theirs back.
    assert engine.most <= 2 * LIMIT
    assert sum(settled) / len(settled) <= LIMIT + 1


async def test_an_engine_that_comes_back_with_another_model_gets_nothing_until_it_serves_the_right_one(
    gateways: list[GatewayProcess], tmp_path: Path, books_url: str, engine: LoadedEngine
) -> None:
    engine.model, engine.waits_s = "another-model", 0.0
    gateway = await _open(gateways, tmp_path, books_url, url=engine.url, family="vllm", model="upstream-model")
    await engine.heard_one()
    async with gateway.session() as session:
        async with asyncio.timeout(20):
            while await _ask(session) == 200:
                await asyncio.sleep(0.05)
        before = len(engine.chats)
        assert await _ask(session) == 503
        assert len(engine.chats) == before
        engine.model = "upstream-model"
        async with asyncio.timeout(30):
            while await _ask(session) != 200:
                await asyncio.sleep(0.2)
    refused = [receipt for receipt in await gateway.receipts(before + 2) if receipt.outcome is Outcome.REFUSED]
    decision = refused[0].decision
    assert isinstance(decision, Refusal)
    assert decision.candidates[0].filter == "model"
    assert "it serves another-model, not upstream-model" in decision.message


async def test_a_gateway_that_was_restarted_predicts_from_its_first_request(
    gateways: list[GatewayProcess], tmp_path: Path, books_url: str, engine: LoadedEngine
) -> None:
    engine.waits_s, engine.version = 0.05, "0.11.0"
    gateway = await _open(gateways, tmp_path, books_url, url=engine.url, family="vllm", model=engine.model)
    async with gateway.session() as session:
        for number in range(6):
            assert await _ask(session, "Tell me more. " * (1 + 20 * (number % 3))) == 200
    assert (await gateway.receipts(6))[-1].decision.candidates[0].predicted_ttft_ms is None
    gateway.stop()
    (row,) = await said(books_url, "select target, model, engine_version, prefill_weight from service_curve")
    assert (row["target"], row["model"], row["engine_version"]) == ("ours", engine.model, "0.11.0")
    assert row["prefill_weight"] >= 5
    await gateway.start()
    async with gateway.session() as session:
        assert await _ask(session) == 200
    receipt = max(await gateway.receipts(7), key=lambda receipt: receipt.at_us)
    (candidate,) = receipt.decision.candidates
    assert candidate.seen.prefill_tokens_per_s is not None
    assert candidate.predicted_ttft_ms is not None
    assert 1 < candidate.predicted_ttft_ms < 10_000
