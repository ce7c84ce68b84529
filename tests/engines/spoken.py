"""How each family speaks: its pages, what a stream of it looks like, and how it says no. November 2026."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from app.domain.errors import FaultKind
from app.domain.signals import SignalName as S
from app.domain.usage import Usage
from tests.engines import pages
from tests.engines.pages import JSON, TEXT, page
from tests.engines.server import CACHED_TOKENS, CONTEXT, MODEL, PROMPT_TOKENS, WORDS, Case, Said, Spoken
from tests.engines.vllm import VLLM_ERRORS, vllm_answer, vllm_stream, vllm_usage

PLAIN = Usage(prompt=PROMPT_TOKENS, output=len(WORDS))
WITH_CACHED = Usage(prompt=PROMPT_TOKENS, output=len(WORDS), cached=CACHED_TOKENS)

#: Latencies that every family with all the histograms tells alike.
TIMES = {S.TTFT_SUM_S: 2.5, S.TTFT_COUNT: 10.0, S.TPOT_SUM_S: 0.5, S.TPOT_COUNT: 10.0}
ITL = {S.ITL_SUM_S: 4.0, S.ITL_COUNT: 200.0}
QUEUE = {S.QUEUE_SUM_S: 1.5, S.QUEUE_COUNT: 10.0}
PHASES = {S.PREFILL_SUM_S: 0.75, S.DECODE_SUM_S: 3.0}
LOAD = {S.RUNNING: 7.0, S.WAITING: 2.0, S.KV_USAGE: 0.75}
TOKENS = {S.PROMPT_TOKENS: 1500.0, S.GENERATION_TOKENS: 200.0}


# ── usage and streams ────────────────────────────────────────────────────────────────────────────────────────────────


def three_fields(usage: Usage) -> dict[str, object]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.output,
        "total_tokens": usage.prompt + usage.output,
    }


def with_details(usage: Usage) -> dict[str, object]:
    """The count of cached tokens only where it is not 0, as SGLang does."""
    details = {"cached_tokens": usage.cached} if usage.cached else None
    return {**three_fields(usage), "prompt_tokens_details": details}


def sglang_usage(usage: Usage) -> dict[str, object]:
    return {**with_details(usage), "reasoning_tokens": 0}


def _chunk(delta: Mapping[str, object], *, finish: str | None = None, **more: object) -> dict[str, object]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "delta": dict(delta), "logprobs": None, "finish_reason": finish}],
        **more,
    }


def _event(said: object, *, blank: bool = True) -> bytes:
    return b"data:" + (b" " if blank else b"") + json.dumps(said, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def sglang_stream(words: Sequence[str], usage: Usage | None) -> list[bytes]:
    """`reasoning_content` and `tool_calls` as nulls in each delta, and usage null until the end."""
    empty = {"reasoning_content": None, "tool_calls": None}
    said = [_event(_chunk({"role": "assistant", "content": "", **empty}, usage=None))]
    said += [_event(_chunk({"role": None, "content": word, **empty}, usage=None)) for word in words]
    said.append(_event(_chunk({"role": None, "content": None, **empty}, finish="stop", usage=None)))
    if usage is not None:
        said.append(_event({**_chunk({}), "choices": [], "usage": sglang_usage(usage)}))
    return [*said, DONE]


def llamacpp_stream(words: Sequence[str], usage: Usage | None) -> list[bytes]:
    """`content: null` beside the role, an empty delta at the end, `timings` beside the usage."""
    said = [_event(_chunk({"role": "assistant", "content": None}))]
    said += [_event(_chunk({"content": word})) for word in words]
    said.append(_event(_chunk({}, finish="stop")))
    if usage is not None:
        timings = {"cache_n": usage.cached, "prompt_n": usage.prompt - usage.cached, "predicted_n": usage.output}
        last = {**_chunk({}), "choices": [], "usage": always_details(usage), "timings": timings}
        said.append(_event(last))
    return [*said, DONE]


def always_details(usage: Usage) -> dict[str, object]:
    return {**three_fields(usage), "prompt_tokens_details": {"cached_tokens": usage.cached}}


def ollama_stream(words: Sequence[str], usage: Usage | None) -> list[bytes]:
    """The role on every delta, and usage of three fields."""
    said = [_event(_chunk({"role": "assistant", "content": word}, system_fingerprint="fp_ollama")) for word in words]
    said.append(_event(_chunk({"role": "assistant", "content": ""}, finish="stop")))
    if usage is not None:
        said.append(_event({**_chunk({}), "choices": [], "usage": three_fields(usage)}))
    return [*said, DONE]


def tgi_stream(words: Sequence[str], usage: Usage | None) -> list[bytes]:
    """No blank behind `data:`, and the finish reason on the last word."""
    *first, last = words
    said = [_event(_chunk({"role": "assistant", "content": word}), blank=False) for word in first]
    said.append(_event(_chunk({"role": "assistant", "content": last}, finish="stop"), blank=False))
    if usage is not None:
        said.append(_event({**_chunk({}), "choices": [], "usage": three_fields(usage)}, blank=False))
    return [*said, b"data:[DONE]\n\n"]


def cumulative_stream(words: Sequence[str], usage: Usage | None) -> list[bytes]:
    """Usage on every chunk as it grows, and no chunk for it alone: LMDeploy and trtllm-serve."""
    said = [_event(_chunk({"role": "assistant", "content": ""}))]
    for number, word in enumerate(words, 1):
        grown = Usage(prompt=PROMPT_TOKENS, output=number, cached=usage.cached if usage else 0)
        more = {} if usage is None else {"usage": always_details(grown)}
        said.append(_event(_chunk({"content": word}, finish="stop" if number == len(words) else None, **more)))
    return [*said, DONE]


def dynamo_stream(words: Sequence[str], usage: Usage | None) -> list[bytes]:
    """Comments and named events between the chunks."""
    said = [b"event: request_id\n: chatcmpl-1\n\n"]
    said += [_event(_chunk({"role": "assistant", "content": word})) for word in words]
    said.append(_event(_chunk({}, finish="stop")))
    if usage is not None:
        said.append(_event({**_chunk({}), "choices": [], "usage": three_fields(usage)}))
    return [*said, DONE]


# ── how they say no ──────────────────────────────────────────────────────────────────────────────────────────────────


def _openai(message: str, kind: str, *, status: int, param: str | None = None) -> Said:
    return Said(status, {"error": {"message": message, "type": kind, "param": param, "code": status}})


def _sglang(message: str, kind: str, status: int, *, in_stream: bool = False) -> Said:
    body = {"object": "error", "message": message, "type": kind, "param": None, "code": status}
    return Said(status, {"error": body} if in_stream else body, in_stream=in_stream)


SGLANG_ERRORS = {
    Case.TOO_LONG: _sglang(
        f"The input (9000 tokens) is longer than the model's context length ({CONTEXT} tokens).", "BadRequestError", 400
    ),
    # Only ValueErrors come before the 200: a full queue is told inside the stream.
    Case.FULL: _sglang("The request queue is full.", "ServiceUnavailableError", 503, in_stream=True),
    Case.BAD: _sglang("1 validation errors: messages: Field required", "BadRequestError", 400),
    Case.DEAD: _sglang("Scheduler hit an exception.", "InternalServerError", 500),
}

TRTLLM_ERRORS = {
    Case.TOO_LONG: _sglang(
        f"The sum of prompt length (9000.0), query length (0) should not exceed max_num_tokens ({CONTEXT})",
        "BadRequestError",
        400,
    ),
    Case.BAD: Said(400, {"detail": [{"loc": ["body", "messages"], "msg": "Field required"}]}),
    Case.DEAD: _sglang("Internal server error", "InternalServerError", 500),
}

LLAMACPP_ERRORS = {
    Case.TOO_LONG: Said(
        400,
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size, try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 9000,
                "n_ctx": CONTEXT,
            }
        },
    ),
    Case.BAD: Said(400, {"error": {"code": 400, "message": "'messages' is required", "type": "invalid_request_error"}}),
    # While it loads, or loads anew: another target, or this one in a moment.
    Case.DEAD: Said(
        503,
        {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
        kind=FaultKind.OVERLOADED,
    ),
}

LMDEPLOY_ERRORS = {
    Case.TOO_LONG: Said(
        400,
        {
            "error": {
                "message": "The input is too long.",
                "type": "invalid_request_error",
                "code": "context_length_exceeded",
            }
        },
    ),
    Case.BAD: Said(400, {"error": {"message": "messages is required", "type": "invalid_request_error", "code": 400}}),
    Case.DEAD: Said(
        503,
        {"error": {"message": "The engine is gone.", "type": "server_error", "code": "engine_unavailable"}},
        kind=FaultKind.OVERLOADED,
    ),
    Case.NO_MODEL: Said(404, {"error": {"message": "The model `nope` does not exist.", "code": "model_not_found"}}),
}

TGI_ERRORS = {
    Case.TOO_LONG: Said(
        422,
        {
            "error": f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= {CONTEXT}. Given: 9000",
            "error_type": "validation",
        },
    ),
    Case.FULL: Said(429, {"error": "Model is overloaded", "error_type": "overloaded"}),
    Case.BAD: Said(422, "Failed to deserialize the JSON body into the target type: missing field `messages`"),
    Case.DEAD: Said(500, {"error": "Request failed during generation: CUDA error", "error_type": "generation"}),
}

OLLAMA_ERRORS = {
    Case.TOO_LONG: Said(400, {"error": "the input length exceeds the context length"}),
    Case.FULL: Said(503, {"error": "server busy, please try again.  maximum pending requests exceeded"}),
    Case.BAD: _openai("[] is too short - 'messages'", "invalid_request_error", status=400),
    Case.DEAD: Said(500, {"error": "llama runner process has terminated: exit status 2"}),
    Case.NO_MODEL: _openai('model "nope" not found, try pulling it first', "api_error", status=404),
}

DYNAMO_ERRORS = {
    # Its workers' own words pass through.
    Case.TOO_LONG: VLLM_ERRORS[Case.TOO_LONG],
    Case.FULL: Said(529, {"message": "All workers are busy, please retry later", "type": "overloaded", "code": 529}),
    Case.BAD: Said(400, {"message": "messages is required", "type": "Bad Request", "code": 400}),
    Case.DEAD: Said(500, {"message": "Failed to generate completions", "type": "Internal Server Error", "code": 500}),
    Case.NO_MODEL: Said(404, {"message": "Model not found", "type": "Not Found", "code": 404}),
}


# ── the families ─────────────────────────────────────────────────────────────────────────────────────────────────────


def models(owned_by: str, **more: object) -> tuple[str, str]:
    return page({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": owned_by, **more}]})


_VLLM_SIGNALS = {
    **LOAD,
    **TOKENS,
    **TIMES,
    **ITL,
    **QUEUE,
    **PHASES,
    S.KV_CAPACITY_TOKENS: 46592.0,
    S.PREFIX_QUERIES: 805.0,
    S.PREFIX_HITS: 768.0,
    S.CACHED_TOKENS: 768.0,
    S.PREEMPTIONS: 1.0,
    S.REJECTIONS: 6.0,
}
_LOADS = {
    **LOAD,
    S.SLOTS: 32.0,
    S.KV_CAPACITY_TOKENS: 46592.0,
    S.PREFIX_HIT_RATE: 0.5,
}

SPOKEN: Mapping[str, Spoken] = {
    spoken.family: spoken
    for spoken in (
        Spoken(
            family="vllm",
            pages={
                "/metrics": (TEXT, pages.VLLM),
                "/version": page({"version": "0.33.0"}),
                "/v1/models": models("vllm", max_model_len=CONTEXT),
            },
            bare_pages={"/metrics": (TEXT, pages.VLLM_BARE)},
            signals=_VLLM_SIGNALS,
            bare_signals={},
            errors=VLLM_ERRORS,
            usage=WITH_CACHED,
            bare_usage=PLAIN,
            version="0.33.0",
            context=CONTEXT,
            stream=vllm_stream,
            usage_of=vllm_usage,
            whole=vllm_answer,
            echoes_id=True,
        ),
        Spoken(
            family="sglang",
            pages={
                "/metrics": (TEXT, pages.SGLANG),
                "/v1/loads": page(pages.SGLANG_LOADS),
                "/server_info": page({"version": "0.5.23", "context_length": None}),
                "/v1/models": models("sglang", max_model_len=CONTEXT),
            },
            bare_pages={"/metrics": 404},
            signals={
                **_LOADS,
                **TOKENS,
                **TIMES,
                **ITL,
                **QUEUE,
                S.CACHED_TOKENS: 768.0,
                S.PREEMPTIONS: 1.0,
                S.REJECTIONS: 6.0,
            },
            bare_signals=_LOADS,
            errors=SGLANG_ERRORS,
            usage=WITH_CACHED,
            bare_usage=PLAIN,
            version="0.5.23",
            context=CONTEXT,
            stream=sglang_stream,
            usage_of=sglang_usage,
        ),
        Spoken(
            family="trtllm",
            pages={
                "/prometheus/metrics": (TEXT, pages.TRTLLM),
                "/metrics": (JSON, "[]"),
                "/version": page({"version": "1.2.1"}),
                "/v1/models": models("tensorrt_llm"),
            },
            bare_pages={"/prometheus/metrics": 404},
            signals={
                **LOAD,
                **TOKENS,
                **TIMES,
                **QUEUE,
                **PHASES,
                S.KV_CAPACITY_TOKENS: 46592.0,
                S.PREFIX_HIT_RATE: 0.5,
                S.CACHED_TOKENS: 768.0,
                S.PREEMPTIONS: 1.0,
                S.REJECTIONS: 6.0,
            },
            bare_signals={},
            errors=TRTLLM_ERRORS,
            usage=WITH_CACHED,
            version="1.2.1",
            stream=cumulative_stream,
            usage_of=always_details,
            forbidden=("/metrics",),
        ),
        Spoken(
            family="triton",
            pages={
                "/metrics": (TEXT, pages.TRITON),
                "/v2": page({"name": "triton", "version": "2.61.0"}),
                "/v1/models": models("Triton Inference Server"),
            },
            bare_pages={"/metrics": 404},
            health="/v2/health/ready",
            signals={**LOAD, S.KV_CAPACITY_TOKENS: 46592.0},
            bare_signals={},
            errors={Case.TOO_LONG: TRTLLM_ERRORS[Case.TOO_LONG], Case.BAD: TRTLLM_ERRORS[Case.BAD]},
            usage=PLAIN,
            version="2.61.0",
            stream=ollama_stream,
            usage_of=three_fields,
            other_port="/metrics",
        ),
        Spoken(
            family="llamacpp",
            pages={
                "/metrics": (TEXT, pages.LLAMACPP),
                "/slots": page(pages.LLAMACPP_SLOTS),
                "/props": page({"build_info": "b8681", "default_generation_settings": {"n_ctx": CONTEXT}}),
                "/v1/models": models("llamacpp", meta={"n_ctx_train": 131072}),
            },
            bare_pages={"/metrics": 501, "/slots": 501},
            signals={
                **TOKENS,
                **PHASES,
                S.RUNNING: 2.0,
                S.WAITING: 5.0,
                S.SLOTS: 3.0,
                S.KV_CAPACITY_TOKENS: 12288.0,
            },
            bare_signals={},
            errors=LLAMACPP_ERRORS,
            usage=WITH_CACHED,
            version="b8681",
            context=CONTEXT,
            stream=llamacpp_stream,
            usage_of=always_details,
            needs_model=("/metrics", "/slots", "/props"),
        ),
        Spoken(
            family="openvino",
            pages={
                "/metrics": (TEXT, pages.VLLM + 'breakeven_worker:engine_restarts_total{engine="0"} 0.0\n'),
                "/version": page({"version": "2026.4.1", "engine": "openvino-genai"}),
                "/v1/models": models("breakeven-worker", max_model_len=CONTEXT),
            },
            signals=_VLLM_SIGNALS,
            errors=VLLM_ERRORS,
            usage=WITH_CACHED,
            version="2026.4.1",
            context=CONTEXT,
            stream=vllm_stream,
            usage_of=always_details,
            echoes_id=True,
        ),
        Spoken(
            family="tgi",
            pages={
                "/metrics": (TEXT, pages.TGI),
                "/info": page({"model_id": MODEL, "version": "3.3.6", "max_total_tokens": CONTEXT}),
                "/v1/models": models(MODEL),
            },
            signals={
                **LOAD,
                **TOKENS,
                **QUEUE,
                S.TPOT_SUM_S: 0.5,
                S.TPOT_COUNT: 10.0,
                S.REJECTIONS: 6.0,
            },
            errors=TGI_ERRORS,
            usage=PLAIN,
            version="3.3.6",
            context=CONTEXT,
            stream=tgi_stream,
            usage_of=three_fields,
        ),
        Spoken(
            family="lmdeploy",
            pages={"/metrics": (TEXT, pages.LMDEPLOY), "/v1/models": models("lmdeploy")},
            bare_pages={"/metrics": 404},
            signals={
                **LOAD,
                **TOKENS,
                **TIMES,
                **ITL,
                **QUEUE,
                **PHASES,
                S.PREFIX_HIT_RATE: 0.5,
                S.CACHED_TOKENS: 768.0,
                S.REJECTIONS: 6.0,
            },
            bare_signals={},
            errors=LMDEPLOY_ERRORS,
            usage=WITH_CACHED,
            stream=cumulative_stream,
            usage_of=always_details,
        ),
        Spoken(
            family="ollama",
            pages={
                "/api/version": page({"version": "0.14.2"}),
                "/api/ps": page({"models": [{"name": MODEL, "size_vram": 5_000_000_000, "context_length": CONTEXT}]}),
                "/v1/models": models("library"),
            },
            health=None,
            signals={},
            errors=OLLAMA_ERRORS,
            usage=PLAIN,
            version="0.14.2",
            context=CONTEXT,
            stream=ollama_stream,
            usage_of=three_fields,
        ),
        Spoken(
            family="nim",
            pages={
                "/v1/metrics": (TEXT, pages.NIM),
                "/v1/version": page({"release": "1.13.0", "api": "1.13.0"}),
                "/v1/models": models("vllm", max_model_len=CONTEXT),
            },
            health="/v1/health/ready",
            signals={**LOAD, **ITL, S.TTFT_SUM_S: 2.5, S.TTFT_COUNT: 10.0, S.SLOTS: 64.0},
            errors=VLLM_ERRORS,
            usage=PLAIN,
            version="1.13.0",
            context=CONTEXT,
            stream=vllm_stream,
            usage_of=three_fields,
        ),
        Spoken(
            family="dynamo",
            pages={"/metrics": (TEXT, pages.DYNAMO), "/v1/models": models("nvidia")},
            signals={S.WAITING: 2.0, S.REJECTIONS: 6.0, S.TTFT_SUM_S: 2.5, S.TTFT_COUNT: 10.0},
            errors=DYNAMO_ERRORS,
            usage=PLAIN,
            stream=dynamo_stream,
            usage_of=three_fields,
        ),
        Spoken(
            family="openai_compatible",
            pages={"/v1/models": models("somebody")},
            health=None,
            signals={},
            errors={Case.BAD: VLLM_ERRORS[Case.BAD], Case.NO_MODEL: VLLM_ERRORS[Case.NO_MODEL]},
            usage=PLAIN,
            stream=ollama_stream,
            usage_of=three_fields,
        ),
    )
}
