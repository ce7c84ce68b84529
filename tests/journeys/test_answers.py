"""A caller's request, all the way to the target and into the books."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import openai

from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.usage import UsageSource
from tests.gateway_process import GatewayProcess
from tests.upstream import NO_USAGE, PROMPT_TOKENS, ScriptedUpstream, completion, refusal, stream, whole

HELLO = [{"role": "user", "content": "hello"}]
ASK = {"model": "chat", "messages": HELLO}


def _price(receipt: Receipt) -> int:
    """What the test policy charges: 1, 0.1 and 10 USD per million tokens."""
    usage = receipt.attempts[-1].usage
    return 1000 * usage.computed_prompt + 100 * usage.cached + 10_000 * usage.output


async def test_a_whole_answer_passes_byte_for_byte_with_its_route_and_charge(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    body = completion("Grüße ☃")
    upstream.will(whole(body))
    async with gateway.session() as session, session.post("/v1/chat/completions", json=ASK) as answer:
        assert answer.status == 200
        assert await answer.read() == body
        headers = answer.headers
    receipt = await gateway.receipt(headers["x-request-id"])
    assert headers["x-breakeven-target"] == "home"
    assert headers["x-breakeven-hosting"] == "managed"
    assert headers["x-breakeven-rule"] == "all"
    assert headers["x-breakeven-policy"] == receipt.policy_digest
    assert headers["x-breakeven-attempts"] == "1"
    assert float(headers["x-breakeven-charge-usd"]) * 1e9 == receipt.charge == _price(receipt) > 0
    assert receipt.outcome is Outcome.COMPLETE
    assert receipt.attempts[0].usage.prompt == PROMPT_TOKENS


async def test_unknown_fields_travel_on_and_the_key_does_not(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    sent = b'{"vendor_field":{"a" : 1.50},"model":"chat","messages":[{"role":"user","content":"x"}],"temperature":0.10}'
    upstream.will(whole())
    headers = {"content-type": "application/json", "x-forwarded-host": "evil", "cookie": "a=b"}
    async with gateway.session() as session:
        await session.post("/v1/chat/completions", data=sent, headers=headers)
    heard = upstream.heard[0]
    assert b'"vendor_field":{"a" : 1.50}' in heard.body
    assert b'"temperature":0.10' in heard.body
    assert heard.json["model"] == "upstream-model"
    assert gateway.key not in str(heard.headers)
    assert not {"authorization", "cookie", "x-forwarded-host"} & set(heard.headers)


async def test_the_official_sdk_works_with_only_base_url_and_key_changed(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key) as client:
        upstream.will(whole(completion("Hello there")))
        said = await client.chat.completions.create(model="chat", messages=HELLO)  # type: ignore[arg-type]
        assert said.choices[0].message.content == "Hello there"
        upstream.will(stream(words=("Hel", "lo")))
        text = ""
        async for chunk in await client.chat.completions.create(model="chat", messages=HELLO, stream=True):  # type: ignore[arg-type]
            assert chunk.usage is None
            text += chunk.choices[0].delta.content or ""
        assert text == "Hello"
        upstream.will(stream(words=("Hel", "lo")))
        usages = [
            chunk.usage
            async for chunk in await client.chat.completions.create(  # type: ignore[call-overload]
                model="chat", messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
        ]
        assert usages[-1] is not None
        assert usages[-1].completion_tokens == 2
        names = [model.id async for model in client.models.list()]
        assert names == ["chat"]


async def test_usage_is_always_asked_for_and_hidden_from_who_did_not_ask(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.will(stream(words=("one", " two", " three")))
    async with gateway.session() as session, session.post("/v1/chat/completions", json={**ASK, "stream": True}) as got:
        raw = await got.read()
        request_id = got.headers["x-request-id"]
    assert upstream.heard[0].json["stream_options"] == {"include_usage": True}
    assert b"usage" not in raw
    assert raw.endswith(b"data: [DONE]\n\n")
    receipt = await gateway.receipt(request_id)
    attempt = receipt.attempts[0]
    assert attempt.usage_source is UsageSource.PROVIDER_FINAL
    assert attempt.usage.output == 3
    assert attempt.ttft_s is not None
    assert attempt.tpot_s is not None
    assert receipt.charge == _price(receipt)


async def test_a_caller_reads_its_own_receipt_of_a_stream_and_no_other_caller_can(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    async with gateway.session() as session:
        async with session.post("/v1/chat/completions", json={**ASK, "stream": True}) as answer:
            await answer.read()
            request_id = answer.headers["x-request-id"]
        async with session.get(f"/v1/receipts/{request_id}") as got:
            receipt = await got.json()
            assert got.status == 200
    assert receipt["rule"] == "all"
    assert receipt["why"]
    assert receipt["attempts"][0]["usage"]["output_tokens"] == 2
    assert receipt["charge_usd"] == "0.000031"
    stranger = await gateway.make_key(team="others")
    async with aiohttp.ClientSession(gateway.url, headers={"authorization": f"Bearer {stranger}"}) as session:
        for _ in range(40):  # a new key is known within seconds
            async with session.get(f"/v1/receipts/{request_id}") as got:
                if got.status != 401:
                    break
            await asyncio.sleep(0.2)
        assert got.status == 404


async def test_an_answer_without_usage_is_estimated_flagged_and_not_free(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.will(stream(words=("one", " two", " three"), usage=NO_USAGE))
    async with gateway.session() as session, session.post("/v1/chat/completions", json={**ASK, "stream": True}) as got:
        await got.read()
    receipt = await gateway.receipt(got.headers["x-request-id"])
    assert receipt.attempts[0].usage_source is UsageSource.GATEWAY_ESTIMATE
    assert receipt.attempts[0].flags == ("usage_estimated",)
    assert receipt.attempts[0].usage.output >= 3
    assert receipt.charge > 0


async def test_a_targets_refusal_of_the_request_itself_is_passed_on_and_not_retried(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    own = {"error": {"message": "temperature must be at most 2", "type": "invalid", "param": "temperature", "code": 1}}
    upstream.will(refusal(400, body=json.dumps(own).encode()))
    async with gateway.session() as session, session.post("/v1/chat/completions", json=ASK) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["message"] == own["error"]["message"]
    assert len(upstream.heard) == 1
    receipt = await gateway.receipt(answer.headers["x-request-id"])
    assert receipt.outcome is Outcome.REFUSED
    assert receipt.charge == 0


async def test_the_log_has_a_line_for_each_receipt_and_never_a_word_of_the_prompt(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    canary = "canary-7f3a"
    upstream.will(whole(completion(canary)))
    ask = {"model": "chat", "messages": [{"role": "user", "content": canary}], "user": canary}
    async with gateway.session() as session, session.post("/v1/chat/completions", json=ask) as answer:
        await answer.read()
    await gateway.receipt(answer.headers["x-request-id"])
    gateway.stop()
    assert any(answer.headers["x-request-id"] in json.dumps(line) for line in gateway.log_lines())
    for path in gateway.data.rglob("*"):
        if path.is_file():
            assert canary.encode() not in path.read_bytes(), path
            assert gateway.key.encode() not in path.read_bytes(), path
