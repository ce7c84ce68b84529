"""How vLLM speaks: member by member as 0.32.0 was heard. `tests/vllm` holds this file to the real one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from app.domain.usage import Usage
from tests.engines.server import CONTEXT, MODEL, Case, Said

DONE = b"data: [DONE]\n\n"
FINGERPRINT = "vllm-0.32.0-e576183c"
#: With --enable-per-request-metrics; a whole answer has `speculative_decoding` too.
METRICS = {
    "time_to_first_token_ms": 12.5,
    "generation_time_ms": 4.0,
    "queue_time_ms": 0.1,
    "mean_itl_ms": 4.0,
    "tokens_per_second": 121.2,
}
BUSY = "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."


def vllm_usage(usage: Usage) -> dict[str, object]:
    """With --enable-prompt-tokens-details where something is cached, otherwise as without the flag. (With it,
    a count of 0 is written too.)"""
    details = {"cached_tokens": usage.cached, "created_cache_tokens": 0, "multimodal_tokens": None}
    return {**_counts(usage), "prompt_tokens_details": details if usage.cached else None}


def _counts(usage: Usage) -> dict[str, object]:
    return {
        "prompt_tokens": usage.prompt,
        "total_tokens": usage.prompt + usage.output,
        "completion_tokens": usage.output,
        "completion_tokens_details": None,
    }


def vllm_answer(text: str, usage: dict[str, object]) -> dict[str, object]:
    """A whole answer: much of it is null."""
    message = {"role": "assistant", "content": text, "refusal": None, "annotations": None, "audio": None}
    choice = {
        "index": 0,
        "message": {**message, "function_call": None, "reasoning": None},
        "logprobs": None,
        "finish_reason": "stop",
        "stop_reason": None,
        "token_ids": None,
        "routed_experts": None,
    }
    nulls = ("prompt_logprobs", "prompt_token_ids", "prompt_text", "kv_transfer_params", "ec_transfer_params")
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [choice],
        "service_tier": None,
        "system_fingerprint": FINGERPRINT,
        "usage": usage,
        **dict.fromkeys(nulls),
        "metrics": {**METRICS, "speculative_decoding": None} if usage["prompt_tokens_details"] else None,
    }


def vllm_stream(words: Sequence[str], usage: Usage | None) -> list[bytes]:
    """Keep-alive comments while it waits, a role of its own, the finish reason behind the words (beside the last one
    where the answer was cut at its length), and at last a chunk without choices."""
    prompt = {"prompt_token_ids": None, "prompt_text": None}
    said = [b": keep-alive\n\n", _event(_chunk({"role": "assistant", "content": ""}, first=True), **prompt)]
    said += [_event(_chunk({"content": word})) for word in words]
    mark = {"system_fingerprint": FINGERPRINT}  # on the last chunk, whichever that is
    said.append(_event(_chunk({}, finish="stop"), **(mark if usage is None else {})))
    if usage is not None:
        counts: dict[str, object] = {"prompt_tokens": usage.prompt, "total_tokens": usage.prompt + usage.output}
        counts["completion_tokens"] = usage.output
        more: dict[str, object] = {}
        if usage.cached:
            counts["prompt_tokens_details"] = {"cached_tokens": usage.cached, "created_cache_tokens": 0}
            more["metrics"] = METRICS
        said.append(_event([], usage=counts, **mark, **more))
    return [*said, DONE]


def _chunk(delta: Mapping[str, object], *, finish: str | None = None, first: bool = False) -> list[dict[str, object]]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    if finish is not None:
        choice["stop_reason"] = None
    return [choice if first else {**choice, "token_ids": None}]


def _event(choices: list[dict[str, object]], **more: object) -> bytes:
    said = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": choices}
    return b"data: " + json.dumps({**said, **more}, separators=(",", ":")).encode() + b"\n\n"


def _error(message: str, kind: str, *, status: int, param: str | None = None) -> Said:
    return Said(status, {"error": {"message": message, "type": kind, "param": param, "code": status}})


VLLM_ERRORS = {
    Case.TOO_LONG: _error(
        f"This model's maximum context length is {CONTEXT} tokens. However, your prompt contains at least "
        f"{CONTEXT + 1} input tokens, which exceeds this limit even without any output tokens. Please reduce the "
        f"length of the input prompt. (parameter=input_tokens, value={CONTEXT + 1})",
        "BadRequestError",
        status=400,
        param="input_tokens",
    ),
    Case.FULL: _error(BUSY, "Service Unavailable", status=503),
    Case.BAD: _error(
        "1 validation error:\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', "
        "'input': '<dict of 5 items>'}",
        "Bad Request",
        status=400,
        param="body.messages",
    ),
    # To a whole answer. A stream that has begun gets it as an event, and `[DONE]` behind it.
    Case.DEAD: _error(
        "EngineCore encountered an issue. See stack trace (above) for the root cause.",
        "InternalServerError",
        status=500,
    ),
    Case.NO_MODEL: _error(
        f"The model `nope` does not exist. Valid aliases: {MODEL}.", "NotFoundError", status=404, param="model"
    ),
}
