"""Prices of a real gateway: what is in force at the dispatch is booked, and its digest is found for ever."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from app.domain.pricing.charge import charge
from app.domain.pricing.rate_card import RateCard
from app.storage.engine import Database
from app.storage.price_book import PostgresPriceBook
from tests.gateway_process import GatewayProcess
from tests.journeys.conftest import Open
from tests.upstream import ScriptedUpstream, stream, whole

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
