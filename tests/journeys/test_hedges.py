"""A slow target is hedged: another answers in time, both are booked, and the slow one's work is broken off."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from app.domain.ledger.receipt import HEDGE_LOST, HEDGED, Receipt
from app.domain.metering.measurement import Outcome
from app.flows.draft import CHECKPOINT_TOKENS
from app.live.retry_budget import FLOOR_PER_S, SHARE_PERCENT, WINDOW_S
from tests.gateway_process import PATIENT, GatewayProcess
from tests.journeys.conftest import Open
from tests.upstream import Hang, ScriptedUpstream, Until, stream, stream_head, whole

AFTER_S = 0.3
#: Holds one answer of 400 tokens ($0.004 and its prompt), and not two.
TIGHT_USD = "0.006"


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """What a caller has."""

    status: int
    body: bytes
    request_id: str
    target: str
    attempts: str
    took_s: float


async def open_hedging(open_gateway: Open, first: ScriptedUpstream, second: ScriptedUpstream) -> GatewayProcess:
    """Two targets, and three models that are hedged. `hedged` and `tight` are under budgets, and that of `tight` has no
    room for two attempts."""
    rules = "      - {name: all, use: [first, second]}"
    hedge = f"\n    hedge: {{after_ms: {1000 * AFTER_S:g}}}"
    extra = (
        f"defaults: {{timeouts: {PATIENT}}}\n"
        f"budgets:\n  tight: {{of: {{model: tight}}, usd: {TIGHT_USD}, every: month}}\n"
        "  roomy: {of: {model: hedged}, usd: 50, every: month}"
    )
    hedged = (f"\n  {model}:\n    rules:\n{rules}{hedge}" for model in ("hedged", "tight", "free"))
    models = rules + "".join(hedged)
    return await open_gateway({"first": first.url, "second": second.url}, rules=models, extra=extra)


async def ask(gateway: GatewayProcess, *, model: str = "hedged", stream: bool = False) -> Got:
    body = {"model": model, "stream": stream, "max_tokens": 400, "messages": [{"role": "user", "content": "hello"}]}
    began_s = time.monotonic()
    async with gateway.session() as session, session.post("/v1/chat/completions", json=body) as answer:
        told: dict[str, Any] = {name.lower(): value for name, value in answer.headers.items()}
        return Got(
            status=answer.status,
            body=await answer.read(),
            request_id=told["x-request-id"],
            target=told["x-breakeven-target"],
            attempts=told["x-breakeven-attempts"],
            took_s=time.monotonic() - began_s,
        )


def attempts_of(receipt: Receipt) -> list[tuple[str, Outcome, bool]]:
    return [(each.target, each.outcome, HEDGE_LOST in each.flags) for each in receipt.attempts]


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_a_caller_of_a_slow_target_is_answered_by_another_and_kill_9_in_the_race_books_both(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream, streamed: bool
) -> None:
    gateway = await open_hedging(open_gateway, upstream, second)
    slow = [stream_head(), Hang()] if streamed else [Hang()]
    quick = stream() if streamed else whole()

    # The second answers, the first is broken off, and both are in the books.
    upstream.will(slow)
    second.will(quick)
    got = await ask(gateway, stream=streamed)
    assert (got.status, got.target, got.attempts) == (200, "second", "2")
    assert got.body.endswith(b"data: [DONE]\n\n") or not streamed
    print(f"answered after {got.took_s:.2f} s, hedged after {AFTER_S} s")
    assert got.took_s >= AFTER_S
    await asyncio.wait_for(upstream.heard[0].left.wait(), 10)
    receipt = await gateway.receipt(got.request_id)
    assert attempts_of(receipt) == [("first", Outcome.ABANDONED, True), ("second", Outcome.COMPLETE, False)]
    assert all(attempt.charge > 0 for attempt in receipt.attempts)
    (hold,) = receipt.holds
    assert hold.amount > 2 * 400 * 10_000, "both attempts may cost 400 tokens of output"
    assert [upstream.heard[0].attempt_id, second.heard[0].attempt_id] == [
        attempt.attempt_id for attempt in receipt.attempts
    ]

    # The first answers while the second is under way: the receipt is the first's.
    both_are_asked = asyncio.Event()
    upstream.will([Until(event=both_are_asked), *quick])
    second.will(slow)
    asking = asyncio.create_task(ask(gateway, stream=streamed))
    await second.heard_one(2)
    both_are_asked.set()
    got = await asking
    assert (got.status, got.target, got.attempts) == (200, "first", "2")
    await asyncio.wait_for(second.heard[1].left.wait(), 10)
    receipt = await gateway.receipt(got.request_id)
    assert attempts_of(receipt) == [("first", Outcome.COMPLETE, False), ("second", Outcome.ABANDONED, True)]
    assert receipt.final == receipt.attempts[0]

    # A budget that cannot hold both, and a model that is not hedged: the first goes on alone.
    for model in ("tight", "chat"):
        upstream.will(stream(first_s=1.0) if streamed else whole(first_s=1.0))
        got = await ask(gateway, model=model, stream=streamed)
        assert (got.status, got.target, got.attempts) == (200, "first", "1"), model
        assert not (await gateway.receipt(got.request_id)).flags, model
    assert len(second.heard) == 2

    told = b"".join(await gateway.metrics()).decode()
    for result in ("first", "hedge"):
        assert f'breakeven_hedges_total{{gen_ai_request_model="hedged",target="second",result="{result}"}} 1' in told

    # kill -9 while both are open.
    upstream.will([Hang()])
    second.will([stream_head(), Hang()])
    racing = asyncio.create_task(_cut_off(gateway, streamed))
    await second.heard_one(3)
    gateway.kill()
    await racing
    await gateway.start()
    (receipt,) = [each for each in await gateway.receipts(5) if each.outcome is Outcome.INTERRUPTED]
    assert attempts_of(receipt) == [("first", Outcome.INTERRUPTED, False), ("second", Outcome.INTERRUPTED, False)]
    assert {HEDGED, "usage_estimated"} <= receipt.flag_words
    assert [attempt.usage.output for attempt in receipt.attempts] == [CHECKPOINT_TOKENS, CHECKPOINT_TOKENS]
    assert all(attempt.charge > 0 for attempt in receipt.attempts)


async def _cut_off(gateway: GatewayProcess, streamed: bool) -> None:
    with contextlib.suppress(aiohttp.ClientError):
        await ask(gateway, stream=streamed)


async def test_when_every_target_is_slow_hardly_more_is_sent_than_asked(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    gateway = await open_hedging(open_gateway, upstream, second)
    for target in (upstream, second):
        target.always(whole(first_s=2.5))
    requests = 250
    answers = await asyncio.gather(*(ask(gateway, model="free") for _ in range(requests)))
    assert {got.status for got in answers} == {200}
    sent = len(upstream.heard) + len(second.heard)
    most = requests * (1 + SHARE_PERCENT / 100) + FLOOR_PER_S * WINDOW_S
    print(f"{requests} requests, {sent} attempts, {most:g} at the most")
    assert requests < sent <= most
    assert sent == sum(int(got.attempts) for got in answers)
