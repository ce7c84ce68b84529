"""The real vLLM's engine is killed under load: what callers get, and who brings it back. Named to run last."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest

from app.domain.metering.measurement import Outcome
from tests.gateway_process import GatewayProcess
from tests.vllm.process import RealVllm, await_ready
from tests.vllm.test_contract import ENDLESS, HELLO, answers_again, posted


async def test_a_dead_engine_is_no_success_for_anybody_and_comes_back(gateway: GatewayProcess, vllm: RealVllm) -> None:
    if not vllm.pid:
        pytest.skip("this vLLM was started by somebody else, who may not want it killed")
    await answers_again(gateway)
    async with gateway.session() as session:
        stream = await session.post("/v1/chat/completions", json={"model": "chat", "stream": True, **ENDLESS})
        await stream.content.readuntil(b'"content":')
        whole = asyncio.ensure_future(posted(gateway, model="safe", messages=HELLO, max_tokens=400, ignore_eos=True))
        await asyncio.to_thread(vllm.wait_for, 2)
        os.kill(vllm.engine_pid(), signal.SIGKILL)
        rest = await stream.read()

    # vLLM ends such a stream with an error and `[DONE]`: the caller gets the error, and no end that looks like one.
    *_, last = [line.removeprefix(b"data: ") for line in rest.splitlines() if line.startswith(b"data: ")]
    assert "error" in json.loads(last)
    assert b"[DONE]" not in rest
    broken = await gateway.receipt(stream.headers["x-request-id"])
    assert broken.outcome is Outcome.BROKEN
    assert broken.attempts[-1].usage.output > 0, "what was delivered is booked"

    answer, _ = await whole
    assert (answer.status, answer.headers["x-breakeven-target"]) == (200, "spare")
    moved = await gateway.receipt(answer.headers["x-request-id"])
    assert [attempt.target for attempt in moved.attempts] == ["ours", "spare"]
    assert (moved.attempts[0].status, moved.attempts[0].fault) == (500, "server_error")

    while vllm.lives:
        await asyncio.sleep(0.1)
    answer, _ = await posted(gateway, model="safe", messages=HELLO)
    assert (answer.status, answer.headers["x-breakeven-target"]) == (200, "spare")
    answer, body = await posted(gateway, messages=HELLO)
    assert answer.status in {502, 503}, body

    await asyncio.to_thread(await_ready, vllm)
    await answers_again(gateway)
