"""`app.providers.engine_trial`: one chat, and a second one only where the first left something open."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.domain.engine import EngineTrial
from app.domain.errors import FaultKind
from app.providers.credentials import NamedCredentials
from app.providers.engine_trial import OUTPUT_TOKENS, tried_out
from app.providers.engines.families import FAMILIES
from app.providers.exchange import HttpClient
from app.providers.http import http_client
from app.providers.openai_native import OpenAiProvider
from app.system import SystemClock
from tests.makers import a_target
from tests.upstream import NO_USAGE, ScriptedUpstream, refusal, stream, usage_of


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = http_client()
    yield client
    await client.close()


async def tried(upstream: ScriptedUpstream, client: HttpClient, *, family: str = "vllm") -> EngineTrial:
    target = a_target(url=upstream.url, family=FAMILIES[family])
    return await tried_out(target, OpenAiProvider(client, NamedCredentials({})), SystemClock())


def without_details(output: int) -> dict[str, object]:
    return {**usage_of(output), "prompt_tokens_details": None}


async def test_a_chat_that_shows_all_is_sent_once_and_is_small(upstream: ScriptedUpstream, client: HttpClient) -> None:
    upstream.will(stream(usage=usage_of(2, cached=0)))
    trial = await tried(upstream, client)
    assert (trial.failure, trial.usage, trial.cached_tokens) == (None, True, True)
    assert len(upstream.heard) == 1
    sent = upstream.heard[0].json
    assert sent["max_tokens"] == OUTPUT_TOKENS
    assert sent["stream_options"] == {"include_usage": True}


async def test_a_count_that_is_left_out_while_it_is_zero_is_found_the_second_time(
    upstream: ScriptedUpstream, client: HttpClient
) -> None:
    upstream.will(stream(usage=without_details(2)), stream(usage=usage_of(2, cached=8)))
    trial = await tried(upstream, client)
    assert trial.cached_tokens
    assert [heard.json["messages"] for heard in upstream.heard] == [upstream.heard[0].json["messages"]] * 2


async def test_a_count_that_is_never_told_is_not_found(upstream: ScriptedUpstream, client: HttpClient) -> None:
    upstream.always(stream(usage=without_details(2)))
    assert not (await tried(upstream, client)).cached_tokens
    assert len(upstream.heard) == 2


@pytest.mark.parametrize("usage", [without_details(2), NO_USAGE])
async def test_nobody_is_asked_twice_for_what_cannot_come(
    upstream: ScriptedUpstream, client: HttpClient, usage: dict[str, object]
) -> None:
    upstream.always(stream(usage=usage))
    trial = await tried(upstream, client, family="ollama")
    assert trial.usage == (usage is not NO_USAGE)
    assert not trial.cached_tokens
    assert len(upstream.heard) == 1


async def test_a_refusal_is_what_the_provider_says_of_it(upstream: ScriptedUpstream, client: HttpClient) -> None:
    upstream.always(refusal(503))
    trial = await tried(upstream, client)
    assert trial.fault is FaultKind.OVERLOADED
    assert trial.failure is not None
    assert trial.failure.startswith("home: answered 503")
    assert not trial.usage
