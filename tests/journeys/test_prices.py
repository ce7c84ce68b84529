"""Prices of a real gateway: what is in force at the dispatch is booked, its digest is found for ever, and where none is
in force nothing is dispatched."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

from app.bootstrap.office import office
from app.domain.metering.measurement import Outcome
from app.domain.pricing.charge import charge
from app.domain.pricing.rate_card import RateCard
from app.domain.pricing.self_host import MeasuredRates
from app.storage.engine import Database
from app.storage.price_book import PostgresPriceBook
from tests.gateway_process import GatewayProcess
from tests.journeys.conftest import Open
from tests.upstream import ScriptedUpstream, refusal, stream, whole

ASK = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
WRITTEN = "{usd_per_million_tokens: {prompt: 1, cached_prompt: 0.1, completion: 10}}"
LISTED = "{catalogue: openai/gpt-5.5, discount_percent: 10}"
OLD = RateCard.of(prompt=Decimal(1), cached_prompt=Decimal("0.1"), output=Decimal(10))
WITHIN_S = 30.0


async def card_of(gateway: GatewayProcess, digest: str) -> RateCard:
    """The card, once the books have it."""
    async with Database(gateway.database_url) as database, asyncio.timeout(WITHIN_S):
        while (card := await PostgresPriceBook(database).find(digest)) is None:
            await asyncio.sleep(0.05)
        return card


async def digest_of_one(gateway: GatewayProcess) -> str:
    """Ask once; the rate card's digest on the receipt."""
    async with gateway.session() as session, session.post("/v1/chat/completions", json=ASK) as answer:
        assert answer.status == 200, await answer.text()
        receipt = await gateway.receipt(answer.headers["x-request-id"])
    return receipt.attempts[0].rate_card_digest


async def test_a_price_that_changes_mid_stream_is_the_old_one_for_that_stream_and_both_can_be_looked_up(
    open_gateway: Open, upstream: ScriptedUpstream
) -> None:
    gateway = await open_gateway({"home": upstream.url})
    upstream.always(stream(words=[f" w{n}" for n in range(80)], pause_s=0.05))
    asked = {**ASK, "stream": True}
    async with gateway.session() as session, session.post("/v1/chat/completions", json=asked) as open_across:
        await open_across.content.readany()
        upstream.always(whole())
        path = gateway.policies / "all.yaml"
        path.write_text(path.read_text().replace(WRITTEN, LISTED))
        async with asyncio.timeout(WITHIN_S):
            while (new := await digest_of_one(gateway)) == OLD.digest:
                await asyncio.sleep(0.05)
        assert (await open_across.read()).endswith(b"data: [DONE]\n\n")
        (streamed,) = (await gateway.receipt(open_across.headers["x-request-id"])).attempts
    assert (streamed.rate_card_digest, streamed.price_output) == (OLD.digest, OLD.output)
    assert streamed.charge == charge(usage=streamed.usage, price=OLD)
    assert await card_of(gateway, OLD.digest) == OLD
    listed = await card_of(gateway, new)
    assert (listed.prompt, listed.sheet(prompt_tokens=272_001).output) == (Decimal("4.5"), Decimal("40.5"))
    assert listed.origin.endswith("openai/gpt-5.5, less 10 %")


UNPRICED = """
targets:
  gpu:
    machine: {{type: h100, count: 1}}
    hosting: self_hosted
    engine: openai_compatible
    url: {url}
    model: m
    can: [chat]
  ended: {{hosting: managed, provider: openai, url: {url}, model: m, can: [chat]}}
models:
  alone: {{rules: [{{name: nobody is priced, use: [gpu, ended]}}]}}
rates:
  machines: {{h100: {{usd_per_hour: 2}}}}
  targets:
    ended: {{valid_to: 2026-01-01, usd_per_million_tokens: {{prompt: 1, cached_prompt: 0.1, completion: 10}}}}
"""
SPEED = MeasuredRates(
    target="gpu",
    prefill_tokens_per_s=Decimal(1000),
    decode_tokens_per_s=Decimal(100),
    model="m",
    engine_version="1",
    measured_at_s=1_795_435_200,
)


async def test_nothing_is_sent_to_a_target_without_a_price_until_it_has_one(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream, tmp_path: Path
) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "unpriced.yaml").write_text(UNPRICED.format(url=second.url))
    rules = "      - {name: its own first, use: [gpu, ended, home]}"
    gateway = await open_gateway({"home": upstream.url}, rules=rules)
    upstream.always(whole())
    second.always(lambda heard: whole() if heard.method == "POST" else refusal(404))
    async with gateway.session() as session:
        async with session.post("/v1/chat/completions", json=ASK) as answer:
            assert (answer.status, answer.headers["x-breakeven-target"]) == (200, "home")
            served = await gateway.receipt(answer.headers["x-request-id"])
        async with session.post("/v1/chat/completions", json={**ASK, "model": "alone"}) as answer:
            assert answer.status == 503
            told = (await answer.json())["error"]
            refused = await gateway.receipt(answer.headers["x-request-id"])
        assert told["code"] == "no_target"
        assert "its price is not known: measure it or give its rates" in told["message"]
        assert "its price is not known: give its price in the policy" in told["message"]
        assert {each.target: each.filter for each in served.decision.candidates} == {
            "gpu": "price",
            "ended": "price",
            "home": None,
        }
        assert (refused.outcome, refused.attempts, refused.charge) == (Outcome.REFUSED, (), 0)
        assert [heard for heard in second.heard if heard.method == "POST"] == []
        async with office(gateway.settings) as rooms:
            await rooms.rates.remember(SPEED)
        async with asyncio.timeout(WITHIN_S):
            while True:
                async with session.post("/v1/chat/completions", json={**ASK, "model": "alone"}) as answer:
                    if answer.status == 200:
                        break
                await asyncio.sleep(0.2)
        (attempt,) = (await gateway.receipt(answer.headers["x-request-id"])).attempts
    assert attempt.target == "gpu"
    assert attempt.charge > 0
    assert len([heard for heard in second.heard if heard.method == "POST"]) == 1
