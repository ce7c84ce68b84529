"""app.worker.http and all behind it: the whole worker as its callers see it, with the real model."""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
from typing import Any

import aiohttp
import openai
import pytest

from tests.worker_process import MODEL, CpuWorker

PARIS = {"model": MODEL, "prompt": "The capital of France is", "temperature": 0, "max_tokens": 4}
HELLO = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "temperature": 0, "max_tokens": 8}
LONG = " ".join(str(number) for number in range(150))
#: Nothing is claimed of this time: an answer that is not given up ends as another kind.
SETTLES_WITHIN_S = 60.0


async def post(http: aiohttp.ClientSession, path: str, body: object, *, status: int = 200) -> dict[str, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with http.post(path, data=raw) as answer:
        text = await answer.text()
        assert answer.status == status, text
        assert answer.content_type == "application/json"
        read: dict[str, Any] = json.loads(text)
        return read


async def stream(http: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    async with http.post(path, json={**body, "stream": True}) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/event-stream"
        events = (await answer.read()).split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    return [json.loads(event.removeprefix(b"data: ")) for event in events[:-2]]


async def metric(http: aiohttp.ClientSession, name: str) -> float:
    async with http.get("/metrics") as answer:
        found = re.search(rf"^vllm:{name}{{[^}}]*}} (\S+)$", await answer.text(), re.MULTILINE)
    assert found is not None, name
    return float(found[1])


async def settles(http: aiohttp.ClientSession, name: str, value: float) -> bool:
    give_up = time.monotonic() + SETTLES_WITHIN_S
    while time.monotonic() < give_up:
        if await metric(http, name) == value:
            return True
        await asyncio.sleep(0.02)
    return False


async def test_the_capital_of_france(http: aiohttp.ClientSession) -> None:
    body = await post(http, "/v1/completions", PARIS)
    (choice,) = body["choices"]
    assert choice["text"].startswith(" Paris")
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "length", None)
    assert body["object"] == "text_completion"
    assert body["model"] == MODEL
    usage = body["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (5, 4, 9)
    assert body["metrics"]["time_to_first_token_ms"] >= body["metrics"]["queue_time_ms"] >= 0


@pytest.mark.parametrize(
    "prompt", [[504, 3575, 282, 4649, 314], ["The capital of France is"], [[504, 3575, 282, 4649, 314]]]
)
async def test_a_prompt_may_be_tokens(http: aiohttp.ClientSession, prompt: Any) -> None:
    body = await post(http, "/v1/completions", {**PARIS, "prompt": prompt})
    assert body["choices"][0]["text"].startswith(" Paris")


async def test_a_chat_answers(http: aiohttp.ClientSession) -> None:
    body = await post(http, "/v1/chat/completions", HELLO)
    (choice,) = body["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert choice["finish_reason"] in {"stop", "length"}
    assert 1 <= body["usage"]["completion_tokens"] <= 8


async def test_a_stream_says_the_same_as_a_whole_answer(http: aiohttp.ClientSession) -> None:
    whole = (await post(http, "/v1/completions", {**PARIS, "max_tokens": 3}))["choices"][0]["text"]
    chunks = await stream(http, "/v1/completions", {**PARIS, "max_tokens": 3})
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-1] == "length"
    assert len(chunks) == 3
    assert all("usage" not in chunk for chunk in chunks)


async def test_a_chat_stream_opens_with_the_role_and_ends_with_the_usage(http: aiohttp.ClientSession) -> None:
    chunks = await stream(http, "/v1/chat/completions", {**HELLO, "stream_options": {"include_usage": True}})
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] >= 1
    assert chunks[-2]["choices"][0]["finish_reason"] in {"stop", "length"}
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_usage_may_be_on_every_chunk(http: aiohttp.ClientSession) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = await stream(http, "/v1/completions", {**PARIS, "ignore_eos": True, "stream_options": options})
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [1, 2, 3, 4, 4]


async def test_the_official_client_works(cpu_worker: CpuWorker) -> None:
    async with openai.AsyncOpenAI(base_url=f"{cpu_worker.base_url}/v1", api_key="none", max_retries=0) as client:
        whole = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hi"}], max_tokens=4
        )
        assert whole.choices[0].message.content is not None
        text, usage = "", None
        async for chunk in await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Hi"}],
            max_tokens=4,
            stream=True,
            stream_options={"include_usage": True},
        ):
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            usage = chunk.usage or usage
        assert text
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        assert [model.id async for model in client.models.list()] == [MODEL]
        with pytest.raises(openai.NotFoundError):
            await client.completions.create(model="nope", prompt="x")


async def test_a_seed_makes_the_same_answer_again(http: aiohttp.ClientSession) -> None:
    body = {**PARIS, "prompt": "Once upon a time", "temperature": 1, "max_tokens": 10}
    seeded = [(await post(http, "/v1/completions", {**body, "seed": 5}))["choices"][0]["text"] for _ in range(2)]
    assert seeded[0] == seeded[1]
    free = {(await post(http, "/v1/completions", body))["choices"][0]["text"] for _ in range(4)}
    assert len(free) > 1


async def test_choices_differ_and_share_the_prompt(http: aiohttp.ClientSession) -> None:
    body = {**PARIS, "prompt": "Once upon a time", "temperature": 1, "max_tokens": 8, "n": 3, "ignore_eos": True}
    whole = await post(http, "/v1/completions", body)
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    assert len({choice["text"] for choice in whole["choices"]}) == 3
    assert (whole["usage"]["prompt_tokens"], whole["usage"]["completion_tokens"]) == (4, 24)
    chunks = await stream(http, "/v1/completions", body)
    assert {chunk["choices"][0]["index"] for chunk in chunks} == {0, 1, 2}


async def test_a_stop_string_ends_the_text_before_it(http: aiohttp.ClientSession) -> None:
    body = {**PARIS, "max_tokens": 30, "ignore_eos": True}
    plain = (await post(http, "/v1/completions", body))["choices"][0]["text"]
    stop = plain[8:12]
    for kwargs in ({"stop": stop}, {"stop": ["never seen", stop]}):
        (choice,) = (await post(http, "/v1/completions", {**body, **kwargs}))["choices"]
        assert choice["text"] == plain[: plain.index(stop)]
        assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)
    chunks = await stream(http, "/v1/completions", {**body, "stop": stop})
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == plain[: plain.index(stop)]


async def test_a_json_schema_is_obeyed(http: aiohttp.ClientSession) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"enum": ["Ann", "Bob"]}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    wish = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}
    examples = "".join(f'{{"name": "{name}", "age": {age}}}\n' for name, age in (("Ann", 31), ("Bob", 45), ("Ann", 62)))
    body = await post(http, "/v1/completions", {**PARIS, "prompt": examples, "max_tokens": 40, "response_format": wish})
    assert body["choices"][0]["finish_reason"] == "stop"
    made = json.loads(body["choices"][0]["text"])
    assert made["name"] in {"Ann", "Bob"}
    assert 0 <= made["age"] <= 99


async def test_any_json_object_is_an_object(http: aiohttp.ClientSession) -> None:
    body = {**HELLO, "response_format": {"type": "json_object"}, "max_tokens": 5}
    assert (await post(http, "/v1/chat/completions", body))["choices"][0]["message"]["content"].startswith("{")


@pytest.mark.parametrize("text", ["Grüße aus Zürich: ", "你好，世界。", "🎉🎉🎉🎉", "नमस्ते "])
async def test_no_character_is_ever_cut(http: aiohttp.ClientSession, text: str) -> None:
    body = {**PARIS, "prompt": f"Repeat: {text * 6}", "max_tokens": 24, "ignore_eos": True}
    whole = (await post(http, "/v1/completions", body))["choices"][0]["text"]
    parts = [chunk["choices"][0]["text"] for chunk in await stream(http, "/v1/completions", body)]
    assert "".join(parts) == whole
    assert not any("\ufffd" in part for part in parts[:-1])


async def test_a_long_prompt_seen_before_is_cached(http: aiohttp.ClientSession) -> None:
    body = {**PARIS, "prompt": f"A list that only this test has: {LONG}", "max_tokens": 2}
    hits, queries = await metric(http, "prefix_cache_hits_total"), await metric(http, "prefix_cache_queries_total")
    first, second = [(await post(http, "/v1/completions", body))["usage"] for _ in range(2)]
    assert first["prompt_tokens_details"]["cached_tokens"] < 32
    cached = second["prompt_tokens_details"]["cached_tokens"]
    assert second["prompt_tokens"] - 32 < cached < second["prompt_tokens"]
    assert await metric(http, "prefix_cache_hits_total") - hits >= cached
    assert await metric(http, "prefix_cache_queries_total") - queries == 2 * second["prompt_tokens"]


async def test_sixteen_at_once_are_all_answered(http: aiohttp.ClientSession) -> None:
    bodies = [
        {**PARIS, "prompt": f"Number {n}: the capital of France is", "max_tokens": 12, "ignore_eos": True}
        for n in range(16)
    ]
    answers = await asyncio.gather(*(post(http, "/v1/completions", body) for body in bodies))
    assert all(answer["usage"]["completion_tokens"] == 12 for answer in answers)
    assert await settles(http, "num_requests_running", 0)
    assert await metric(http, "kv_cache_usage_perc") == 0


async def test_a_prompt_over_the_context_is_refused(http: aiohttp.ClientSession) -> None:
    error = (await post(http, "/v1/completions", {**PARIS, "prompt": "word " * 9000}, status=400))["error"]
    assert error["param"] == "input_tokens"
    assert error["message"].startswith(
        "This model's maximum context length is 8192 tokens. However, your prompt contains"
    )
    error = (await post(http, "/v1/completions", {**PARIS, "max_tokens": 8190}, status=400))["error"]
    assert "you requested 8190 output tokens and your prompt contains 5 input tokens" in error["message"]
    error = (await post(http, "/v1/completions", {**PARIS, "max_tokens": 9000}, status=400))["error"]
    assert error["param"] == "max_tokens"


async def test_a_refusal_comes_before_a_stream_begins(http: aiohttp.ClientSession) -> None:
    body = {**PARIS, "prompt": "word " * 9000, "stream": True}
    assert (await post(http, "/v1/completions", body, status=400))["error"]["type"] == "BadRequestError"


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/v1/chat/completions", {**HELLO, "model": "nope"}, 404, "model"),
        ("/v1/chat/completions", {**HELLO, "tools": [{"type": "function"}]}, 400, "tools"),
        ("/v1/chat/completions", {**HELLO, "logprobs": True}, 400, "logprobs"),
        ("/v1/chat/completions", {**HELLO, "n": 1000}, 400, "n"),
        ("/v1/chat/completions", {"model": MODEL}, 400, "body.messages"),
        ("/v1/chat/completions", b"{", 400, None),
        ("/v1/completions", {**PARIS, "prompt": ["a", "b"]}, 400, "prompt"),
        ("/v1/completions", {**PARIS, "prompt": [10**6]}, 400, "prompt"),
        ("/v1/completions", {**PARIS, "prompt": ""}, 400, "prompt"),
        ("/v1/completions", {**PARIS, "echo": True}, 400, "echo"),
        ("/detokenize", {"tokens": [10**6]}, 400, "tokens"),
        ("/tokenize", {"prompt": "x", "model": "nope"}, 404, "model"),
        ("/tokenize", {"prompt": "word " * 9000}, 400, "prompt"),
        ("/v1/embeddings", {}, 404, None),
        ("/v1/models", {}, 405, None),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_bad_requests_are_refused_at_once(
    http: aiohttp.ClientSession, path: str, body: Any, status: int, param: str | None
) -> None:
    error = (await post(http, path, body, status=status))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["param"], error["code"]) == (param, status)
    assert "Traceback" not in error["message"]


async def test_a_body_that_is_too_large_is_refused(http: aiohttp.ClientSession) -> None:
    body = json.dumps({**PARIS, "prompt": "x" * (5 * 1024 * 1024)}).encode()
    async with http.post("/v1/completions", data=io.BytesIO(body)) as answer:
        assert answer.status == 413


async def test_text_becomes_tokens_and_text_again(http: aiohttp.ClientSession) -> None:
    body = await post(http, "/tokenize", {"model": MODEL, "prompt": "The capital 你", "return_token_strs": True})
    assert body["count"] == len(body["tokens"]) == len(body["token_strs"])
    assert body["max_model_len"] == 8192
    assert body["token_strs"][:2] == ["The", " capital"]
    assert (await post(http, "/detokenize", {"tokens": body["tokens"]}))["prompt"] == "The capital 你"


async def test_a_chat_is_counted_as_it_is_read(http: aiohttp.ClientSession) -> None:
    counted = (await post(http, "/tokenize", {"messages": HELLO["messages"]}))["count"]
    assert counted == (await post(http, "/v1/chat/completions", HELLO))["usage"]["prompt_tokens"]


async def test_the_model_says_its_context(http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/models") as answer:
        (card,) = (await answer.json())["data"]
    assert (card["id"], card["max_model_len"], card["object"]) == (MODEL, 8192, "model")
    async with http.get("/version") as answer:
        assert (await answer.json())["version"].startswith("2026.")


async def test_health_has_no_body(http: aiohttp.ClientSession) -> None:
    for path in ("/health", "/ping"):
        async with http.get(path) as answer:
            assert (answer.status, await answer.read()) == (200, b"")


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/models", "/nowhere"])
async def test_the_request_id_is_echoed_whatever_the_answer(http: aiohttp.ClientSession, path: str) -> None:
    method = "POST" if path == "/v1/completions" else "GET"
    async with http.request(
        method, path, json=PARIS if method == "POST" else None, headers={"x-request-id": "id-77"}
    ) as answer:
        assert answer.headers["x-request-id"] == "id-77"
        if method == "POST":
            assert (await answer.json())["id"] == "cmpl-id-77"


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_caller_who_hangs_up_frees_the_engine(
    http: aiohttp.ClientSession, cpu_worker: CpuWorker, streaming: bool
) -> None:
    aborted = await abort_count(http)
    body = {**PARIS, "max_tokens": 4000, "ignore_eos": True, "stream": streaming}
    async with aiohttp.ClientSession(cpu_worker.base_url) as leaver:
        call = asyncio.get_running_loop().create_task(read_some(leaver, body))
        assert await settles(http, "num_requests_running", 1)
        await asyncio.sleep(0.1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    assert await settles(http, "num_requests_running", 0)
    assert await abort_count(http) == aborted + 1


async def test_callers_who_hang_up_while_they_wait_are_forgotten(
    http: aiohttp.ClientSession, cpu_worker: CpuWorker
) -> None:
    body = {**PARIS, "prompt": f"Wait: {LONG * 8}", "max_tokens": 4000, "ignore_eos": True}
    async with aiohttp.ClientSession(cpu_worker.base_url, connector=aiohttp.TCPConnector(limit=0)) as leaver:
        bodies = [{**body, "prompt": f"{number} {body['prompt']}"} for number in range(12)]
        calls = [asyncio.get_running_loop().create_task(read_some(leaver, each)) for each in bodies]
        give_up = time.monotonic() + SETTLES_WITHIN_S
        while await metric(http, "num_requests_waiting") < 2:
            assert time.monotonic() < give_up
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    assert await settles(http, "num_requests_waiting", 0)
    assert await settles(http, "num_requests_running", 0)


async def read_some(http: aiohttp.ClientSession, body: dict[str, Any]) -> None:
    async with http.post("/v1/completions", json=body) as answer:
        async for _ in answer.content:
            pass


async def abort_count(http: aiohttp.ClientSession) -> float:
    async with http.get("/metrics") as answer:
        found = re.search(r'request_success_total{[^}]*finished_reason="abort"[^}]*} (\S+)', await answer.text())
    assert found is not None
    return float(found[1])


async def test_metrics_count_what_was_done(http: aiohttp.ClientSession) -> None:
    before = {name: await metric(http, name) for name in ("generation_tokens_total", "prompt_tokens_total")}
    usage = (await post(http, "/v1/completions", {**PARIS, "ignore_eos": True}))["usage"]
    assert (
        await metric(http, "generation_tokens_total") - before["generation_tokens_total"] == usage["completion_tokens"]
    )
    assert await metric(http, "prompt_tokens_total") - before["prompt_tokens_total"] == usage["prompt_tokens"]
    async with http.get("/metrics") as answer:
        text = await answer.text()
    assert 'breakeven_worker:prefix_account_drifts_total{engine="0",model_name="smollm2-135m-instruct"} 0.0' in text
    (cache,) = re.findall(r"vllm:cache_config_info{(.*)} 1.0", text)
    assert 'kv_cache_size_tokens="23296"' in cache, "a gigabyte"
