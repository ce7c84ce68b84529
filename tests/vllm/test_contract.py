"""The real vLLM through the gateway: what callers get, and what the books say of it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.usage import UsageSource
from tests.command_line import breakeven
from tests.gateway_process import GatewayProcess
from tests.vllm.process import RealVllm

HELLO = [{"role": "user", "content": "Hello"}]
LONG = [{"role": "user", "content": "Tell me a long story."}]
#: Nothing else stops it before the caller does.
ENDLESS = {"messages": LONG, "max_tokens": 3500, "ignore_eos": True}
#: More than two of the CPU build's blocks of 128 tokens.
PROMPT = "one two three four five six seven eight nine, " * 25
DOCTOR = Path(__file__).parent / "doctor.txt"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
async def client(gateway: GatewayProcess) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client; what it does not know travels as `extra_body`."""
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        yield client


async def posted(
    gateway: GatewayProcess, path: str = "/v1/chat/completions", **fields: object
) -> tuple[aiohttp.ClientResponse, bytes]:
    async with (
        gateway.session() as session,
        session.post(path, json={"model": "chat", "max_tokens": 6, "temperature": 0, **fields}) as answer,
    ):
        return answer, await answer.read()


async def answered(
    gateway: GatewayProcess, path: str = "/v1/chat/completions", **fields: object
) -> tuple[Any, Receipt]:
    """A whole answer and its receipt, which says what the answer says."""
    answer, body = await posted(gateway, path, **fields)
    assert answer.status == 200, body
    said, receipt = json.loads(body), await gateway.receipt(answer.headers["x-request-id"])
    assert (receipt.outcome, answer.headers["x-breakeven-target"]) == (Outcome.COMPLETE, "ours")
    _agree(receipt, said["usage"])
    return said, receipt


async def streamed(
    gateway: GatewayProcess, path: str = "/v1/chat/completions", **fields: object
) -> tuple[list[dict[str, Any]], Receipt]:
    """The chunks of a stream and its receipt."""
    answer, body = await posted(gateway, path, stream=True, **fields)
    assert answer.status == 200, body
    assert body.endswith(b"data: [DONE]\n\n")
    lines = [line.removeprefix("data: ") for line in body.decode().splitlines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines], await gateway.receipt(answer.headers["x-request-id"])


def _agree(receipt: Receipt, usage: dict[str, Any]) -> None:
    attempt = receipt.attempts[-1]
    booked, details = attempt.usage, usage["prompt_tokens_details"]
    assert (booked.prompt, booked.output) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert booked.cached == details["cached_tokens"]
    assert attempt.usage_source is UsageSource.PROVIDER_FINAL
    assert receipt.charge > 0


async def test_a_chat_is_answered_and_booked_as_the_engine_counts_it(gateway: GatewayProcess) -> None:
    said, receipt = await answered(gateway, messages=HELLO)
    assert said["choices"][0]["message"]["content"]
    assert said["usage"]["completion_tokens"] == 6
    assert receipt.attempts[-1].provider_request_id == f"{receipt.request_id}/1"


async def test_a_completion_is_answered_with_what_the_model_knows(gateway: GatewayProcess) -> None:
    said, _ = await answered(gateway, "/v1/completions", prompt="The capital of France is")
    assert said["choices"][0]["text"].startswith(" Paris")
    chunks, receipt = await streamed(gateway, "/v1/completions", prompt="The capital of France is")
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == said["choices"][0]["text"]
    assert receipt.attempts[-1].usage.output == 6


async def test_a_stream_shows_usage_to_who_asks_for_it_and_is_booked_by_it_either_way(gateway: GatewayProcess) -> None:
    asked, receipt = await streamed(gateway, messages=HELLO, stream_options={"include_usage": True})
    *chunks, last = asked
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 6)
    assert not any(chunk.get("usage") for chunk in chunks), "the engine was started to count in every chunk"
    _agree(receipt, last["usage"])
    unasked, booked = await streamed(gateway, messages=HELLO)
    assert not any("usage" in chunk or not chunk["choices"] for chunk in unasked)
    assert booked.attempts[-1].usage_source is UsageSource.PROVIDER_FINAL
    assert booked.attempts[-1].usage.output == receipt.attempts[-1].usage.output
    assert (text_of(unasked), text_of(chunks)) == (text_of(chunks),) * 2


async def test_usage_in_every_chunk_is_passed_to_who_asks_and_booked_once(gateway: GatewayProcess) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks, receipt = await streamed(gateway, messages=HELLO, stream_options=options)
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    # It joins tokens that come quicker than they are sent.
    assert (counts, counts[0], counts[-2:]) == (sorted(counts), 0, [6, 6])
    _agree(receipt, chunks[-1]["usage"])


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


async def test_cached_tokens_are_booked_and_charged_for_less(gateway: GatewayProcess) -> None:
    ask = [{"role": "user", "content": f"Count to {asyncio.get_running_loop().time()}: {PROMPT}"}]
    first, new = await answered(gateway, messages=ask)
    again, cached = await answered(gateway, messages=ask)
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == 256
    assert cached.charge < new.charge
    chunks, of_stream = await streamed(gateway, messages=ask, stream_options={"include_usage": True})
    assert of_stream.attempts[-1].usage.cached == 256 == chunks[-1]["usage"]["prompt_tokens_details"]["cached_tokens"]


async def test_log_probabilities_pass_whole_and_streamed(gateway: GatewayProcess) -> None:
    asked = {"messages": HELLO, "logprobs": True, "top_logprobs": 2}
    said, _ = await answered(gateway, **asked)
    content = said["choices"][0]["logprobs"]["content"]
    assert "".join(each["token"] for each in content) == said["choices"][0]["message"]["content"]
    assert all(each["logprob"] == max(top["logprob"] for top in each["top_logprobs"]) <= 0 for each in content)
    assert all(len(each["top_logprobs"]) == 2 for each in content)
    chunks, _ = await streamed(gateway, **asked)
    told = [each for chunk in chunks for each in (chunk["choices"][0]["logprobs"] or {"content": []})["content"]]
    assert [each["token"] for each in told] == [each["token"] for each in content]
    assert [each["logprob"] for each in told] == pytest.approx([each["logprob"] for each in content], abs=1e-3)
    said, _ = await answered(gateway, "/v1/completions", prompt="The capital of France is", logprobs=2)
    assert said["choices"][0]["logprobs"]["tokens"][0] == " Paris"


async def test_a_json_schema_is_kept_to(gateway: GatewayProcess) -> None:
    shape = {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}, "large": {"type": "boolean"}},
        "required": ["city", "large"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": shape}}
    asked = {"messages": [{"role": "user", "content": "Name a city."}], "response_format": form, "max_tokens": 120}
    said, _ = await answered(gateway, **asked)
    found = json.loads(said["choices"][0]["message"]["content"])
    assert found["city"] in {"Paris", "Rome"}
    assert (set(found), type(found["large"])) == ({"city", "large"}, bool)
    chunks, _ = await streamed(gateway, **asked)
    assert json.loads(text_of(chunks)) == found
    broken = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "nonsense"}}}
    answer, body = await posted(gateway, messages=HELLO, response_format=broken)
    assert answer.status == 400
    assert "Invalid type: nonsense" in json.loads(body)["error"]["message"]


async def test_a_tool_is_called_whole_and_streamed(gateway: GatewayProcess) -> None:
    asked = {
        "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
        "tools": [WEATHER],
        "tool_choice": "required",
        "max_tokens": 80,
    }
    said, _ = await answered(gateway, **asked)
    (choice,) = said["choices"]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"
    chunks, receipt = await streamed(gateway, **asked)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-1] == "tool_calls"
    calls = [each for chunk in chunks for each in chunk["choices"][0]["delta"].get("tool_calls") or ()]
    assert calls[0]["function"]["name"] == "weather"
    assert "".join(each["function"].get("arguments") or "" for each in calls) == call["function"]["arguments"]
    assert receipt.attempts[-1].usage.output == said["usage"]["completion_tokens"]


async def test_the_engines_times_of_a_request_reach_who_may_see_them(gateway: GatewayProcess) -> None:
    said, receipt = await answered(gateway, messages=HELLO)
    metrics = said["metrics"]
    assert set(metrics) >= {"time_to_first_token_ms", "generation_time_ms", "queue_time_ms", "mean_itl_ms"}
    assert metrics["time_to_first_token_ms"] + metrics["generation_time_ms"] > 0
    assert metrics["queue_time_ms"] < metrics["time_to_first_token_ms"]
    chunks, receipt = await streamed(gateway, messages=HELLO, stream_options={"include_usage": True})
    measured_ms = 1000 * (receipt.attempts[-1].ttft_s or 0)
    # Ours has the network and both programs in it; theirs cannot be longer.
    assert 0 < chunks[-1]["metrics"]["time_to_first_token_ms"] <= measured_ms + 1


async def test_the_official_client_finds_what_it_knows(client: openai.AsyncOpenAI) -> None:
    said = await client.chat.completions.create(model="chat", messages=HELLO, max_tokens=4)  # type: ignore[arg-type]
    assert said.choices[0].finish_reason == "length"
    assert said.usage is not None
    stream = await client.chat.completions.create(
        model="chat", messages=HELLO, max_tokens=4, stream=True, stream_options={"include_usage": True}
    )  # type: ignore[call-overload]
    usages = [chunk.usage async for chunk in stream]
    assert usages[-1].completion_tokens == 4
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="chat", messages=HELLO, temperature=-3)  # type: ignore[arg-type]
    assert caught.value.body["message"].startswith("temperature must be non-negative")  # type: ignore[index]


async def test_the_beginning_of_an_answer_is_gone_on_with(gateway: GatewayProcess) -> None:
    """What `recovery: continue` sends to vLLM, word for word."""
    begun = [*HELLO, {"role": "assistant", "content": "The capital of France is"}]
    said, _ = await answered(gateway, messages=begun, continue_final_message=True, add_generation_prompt=False)
    assert said["choices"][0]["message"]["content"].startswith(" Paris")


async def test_a_prompt_over_the_context_is_the_callers_fault_and_costs_nothing(gateway: GatewayProcess) -> None:
    long = [{"role": "user", "content": "word " * 5000}]
    answer, body = await posted(gateway, messages=long, max_tokens=6)
    assert answer.status == 400
    assert json.loads(body)["error"]["code"] == "context_length_exceeded"
    receipt = await gateway.receipt(answer.headers["x-request-id"])
    assert receipt.charge == 0


# ── leaving ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_who_leaves_a_stream_ends_the_work_and_pays_for_what_was_made(
    gateway: GatewayProcess, vllm: RealVllm
) -> None:
    made = vllm.figure("vllm:generation_tokens_total")
    async with gateway.session() as session:
        answer = await session.post("/v1/chat/completions", json={"model": "chat", "stream": True, **ENDLESS})
        words = 0
        async for line in answer.content:
            words += line.startswith(b"data: ") and b'"content":"' in line
            if words > 8:
                break
        answer.close()
        left = asyncio.get_running_loop().time()
    vllm.wait_until_idle()
    assert asyncio.get_running_loop().time() - left < 20
    receipt = await gateway.receipt(answer.headers["x-request-id"])
    assert receipt.outcome is Outcome.ABANDONED
    booked = receipt.attempts[-1].usage
    assert receipt.attempts[-1].usage_source is UsageSource.GATEWAY_ESTIMATE
    made = vllm.figure("vllm:generation_tokens_total") - made
    assert 8 <= booked.output <= made < 3000


async def test_who_leaves_before_an_answer_that_is_not_streamed_ends_the_work_too(
    gateway: GatewayProcess, vllm: RealVllm
) -> None:
    async with gateway.session() as session:
        asking = asyncio.ensure_future(session.post("/v1/chat/completions", json={"model": "chat", **ENDLESS}))
        await asyncio.to_thread(vllm.wait_for, 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await asyncio.to_thread(vllm.wait_until_idle)


async def test_who_leaves_the_engines_queue_is_forgotten_there(gateway: GatewayProcess, vllm: RealVllm) -> None:
    with vllm.crowded(5):
        async with gateway.session() as session:
            asking = asyncio.ensure_future(session.post("/v1/chat/completions", json={"model": "chat", **ENDLESS}))
            await asyncio.to_thread(vllm.wait_for, 6)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await asyncio.to_thread(vllm.wait_for, 5)


async def answers_again(gateway: GatewayProcess) -> None:
    """Until vLLM gets what both could answer: its circuit rests after what the tests before did to it."""
    async with asyncio.timeout(120):
        while (await posted(gateway, model="safe", messages=HELLO))[0].headers.get("x-breakeven-target") != "ours":
            await asyncio.sleep(1)


# ── a full queue ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_full_queue_is_a_503_that_says_so(gateway: GatewayProcess, vllm: RealVllm, *, stream: bool) -> None:
    with vllm.crowded():
        answer, body = await posted(gateway, messages=HELLO, stream=stream)
    assert answer.status == 503, body
    error = json.loads(body)["error"]
    assert "busy" in error["message"], error
    assert "retry-after" in answer.headers
    receipt = await gateway.receipt(answer.headers["x-request-id"])
    assert receipt.charge == 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_behind_a_full_queue_the_next_target_answers(
    gateway: GatewayProcess, vllm: RealVllm, *, stream: bool
) -> None:
    await answers_again(gateway)
    with vllm.crowded():
        answer, body = await posted(gateway, model="safe", messages=HELLO, stream=stream)
    assert answer.status == 200, body
    headers = answer.headers
    assert (headers["x-breakeven-target"], headers["x-breakeven-attempts"]) == ("spare", "2")
    receipt = await gateway.receipt(headers["x-request-id"])
    assert [attempt.target for attempt in receipt.attempts] == ["ours", "spare"]


# ── the doctor ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_doctor_says_of_it_what_is_recorded_here(gateway: GatewayProcess, tmp_path: Path) -> None:
    # Away from the books: what gateways learned of it is another number each time.
    where = {"BREAKEVEN_POLICIES": str(gateway.policies), "BREAKEVEN_DATA": str(tmp_path)}
    ran = breakeven("doctor", "ours", timeout_s=180, **where)
    assert ran.status == 0, ran.err
    assert masked(ran.out) == DOCTOR.read_text()


def masked(said: str) -> str:
    """Without what is another number each time."""
    said = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", said)
    said = re.sub(r"after \d+ ms", "after N ms", said)
    said = re.sub(r"(?m)^(  \w+ +)[\d.e+-]+$", r"\1N", said)
    return "\n".join(line.rstrip() for line in said.splitlines()).strip() + "\n"
