"""`app.providers.openai_native` over sockets and `app.providers.scripted` both are what `app.ports.Provider` says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from app.domain.errors import FaultKind
from app.domain.usage import Usage
from app.providers.credentials import NamedCredentials
from app.providers.http import http_client
from app.providers.openai_native import OpenAiProvider
from app.providers.scripted import Script, ScriptedProvider
from tests.makers import a_target
from tests.ports.provider_suite import Oracle, ProviderAtHand, ProviderSuite
from tests.upstream import (
    DONE,
    LAST_PART,
    NO_USAGE,
    Answer,
    Finish,
    Hang,
    Heard,
    Pause,
    ScriptedUpstream,
    Send,
    Step,
    chunk,
    completion,
    head,
    part,
    refusal,
    stream_head,
    usage_chunk,
    usage_of,
    whole,
)

#: How real engines and services spell these: vLLM, OpenAI.
SPELLED: dict[FaultKind, tuple[int, dict[str, object]]] = {
    FaultKind.BAD_REQUEST: (400, {"message": "n: too many", "type": "invalid_request_error", "param": "n"}),
    FaultKind.CONTEXT_OVERFLOW: (
        400,
        {
            "message": "This model's maximum context length is 2048 tokens. However, your prompt contains at least 4000"
            " input tokens, which exceeds this limit even without any output tokens.",
            "type": "BadRequestError",
            "param": "input_tokens",
            "code": 400,
        },
    ),
    FaultKind.AUTH: (401, {"message": "Incorrect API key provided", "code": "invalid_api_key"}),
    FaultKind.MONEY_GONE: (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}),
    FaultKind.NOT_FOUND: (404, {"message": "The model `nope` does not exist.", "type": "NotFoundError", "code": 404}),
    FaultKind.RATE_LIMITED: (429, {"message": "Rate limit reached", "code": "rate_limit_exceeded"}),
    FaultKind.SERVER_ERROR: (500, {"message": "Internal server error", "type": "InternalServerError", "code": 500}),
    FaultKind.OVERLOADED: (
        503,
        {
            "message": "The engine is currently busy and cannot accept new requests. Please try again later or on a"
            " different instance.",
            "type": "Service Unavailable",
            "param": None,
            "code": 503,
        },
    ),
}


def performed(script: Script, heard: Heard) -> Answer:
    """The script as an engine would play it on the wire."""
    if script.fault in SPELLED:
        status, error = SPELLED[script.fault]
        pause = () if script.retry_after_s is None else (("retry-after", f"{script.retry_after_s:g}"),)
        return refusal(status, json.dumps({"error": error}).encode(), headers=pause)
    return _streamed(script) if heard.json.get("stream") else _whole(script)


def _streamed(script: Script) -> Answer:
    steps: list[Step] = [stream_head(), part(chunk()), Pause(seconds=script.first_s)]
    if script.fault is FaultKind.INVALID_ANSWER:
        return [head(headers=(("content-type", "text/html"), ("content-length", "4"))), Send(raw=b"<p/>")]
    for number, word in enumerate(script.words):
        if script.fault is FaultKind.CUT and number == script.fault_after:
            return [*steps, Pause(seconds=0.02), Finish()]
        steps += [Pause(seconds=script.between_s if number else 0), part(chunk(word), tokens=1)]
    steps.append(part(chunk(finish="stop")))
    if script.reports_usage:
        steps.append(part(usage_chunk(usage_of(len(script.words), cached=script.cached_tokens))))
    return [*steps, *([part(DONE)] if script.says_done else []), LAST_PART]


def _whole(script: Script) -> Answer:
    usage = usage_of(len(script.words), cached=script.cached_tokens) if script.reports_usage else NO_USAGE
    body = completion("".join(script.words), usage=usage)
    if script.fault is FaultKind.INVALID_ANSWER:
        return whole(body[:40])
    if script.fault is FaultKind.CUT:
        return [*whole(body[:40], length=len(body)), Finish()]
    if script.fault is FaultKind.IDLE_TIMEOUT:
        return [*whole(body[:40], length=len(body)), Hang()]
    pauses = Pause(seconds=script.between_s * len(script.words))
    begun, *rest = whole(body, tokens=len(script.words), first_s=script.first_s)[1:]
    return [Pause(seconds=script.first_s), begun, pauses, *rest]


class TestOverHttp(ProviderSuite):
    @pytest.fixture
    async def at_hand(self, upstream: ScriptedUpstream) -> AsyncIterator[ProviderAtHand]:
        client = http_client()

        def oracle() -> list[Oracle]:
            return [
                Oracle(
                    attempt_id=heard.attempt_id,
                    billed=None if heard.bill is None else Usage(prompt=heard.bill.prompt, output=heard.bill.output),
                    hung_up=heard.hung_up_at_s is not None,
                )
                for heard in upstream.heard
            ]

        yield ProviderAtHand(
            provider=OpenAiProvider(client, NamedCredentials({})),
            play=lambda script: upstream.will(lambda heard: performed(script, heard)),
            oracle=oracle,
            target=a_target(url=upstream.url),
        )
        await client.close()


class TestFromAScript(ProviderSuite):
    @pytest.fixture
    def at_hand(self) -> ProviderAtHand:
        provider = ScriptedProvider({}, sleep=asyncio.sleep)
        target = a_target()
        return ProviderAtHand(
            provider=provider,
            play=lambda script: provider.play(target.name, script),
            oracle=lambda: [
                Oracle(attempt_id=deed.attempt_id, billed=deed.billed, hung_up=deed.hung_up) for deed in provider.deeds
            ],
            target=target,
        )
