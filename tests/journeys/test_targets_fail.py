"""When a target fails: another serves before the first byte; after it, the caller is told and never deceived."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

from app.domain.metering.measurement import Outcome
from app.domain.usage import UsageSource
from tests.gateway_process import BRIEF, PATIENT, GatewayProcess
from tests.journeys.conftest import Open
from tests.upstream import (
    Answer,
    Finish,
    Hang,
    Reset,
    ScriptedUpstream,
    broken_stream,
    refusal,
    stream,
    stream_head,
    unreachable_url,
    whole,
)

ASK: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}


async def _ask(gateway: GatewayProcess, *, stream: bool = False) -> tuple[int, bytes, dict[str, str]]:
    ask = {**ASK, "stream": stream}
    async with gateway.session() as session, session.post("/v1/chat/completions", json=ask) as answer:
        return answer.status, await answer.read(), {name.lower(): value for name, value in answer.headers.items()}


async def test_a_target_that_is_gone_is_replaced_and_costs_nothing(
    open_gateway: Open, second: ScriptedUpstream
) -> None:
    gateway = await open_gateway({"gone": unreachable_url(), "second": second.url})
    second.always(whole())
    status, _, headers = await _ask(gateway)
    assert status == 200
    assert (headers["x-breakeven-target"], headers["x-breakeven-attempts"]) == ("second", "2")
    receipt = await gateway.receipt(headers["x-request-id"])
    gone, answered = receipt.attempts
    assert (gone.outcome, gone.fault, gone.charge) == (Outcome.REFUSED, "refused_connection", 0)
    assert gone.usage_source is UsageSource.NOTHING_SENT
    assert answered.outcome is Outcome.COMPLETE
    assert receipt.charge == answered.charge > 0


@pytest.mark.parametrize(
    ("answer", "fault", "free"),
    [
        (refusal(503), "overloaded", True),
        (refusal(500), "server_error", True),
        (refusal(429), "rate_limited", True),
        (refusal(401), "auth", True),
        ([stream_head(), Hang()], "first_token_timeout", False),
        (broken_stream([], Finish()), "cut", False),
        (broken_stream([], Reset()), "cut", False),
    ],
    ids=["503", "500", "429", "401", "no first token", "closed early", "reset early"],
)
async def test_before_the_first_byte_the_next_candidate_answers(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream, answer: Answer, fault: str, free: bool
) -> None:
    timeouts = BRIEF if fault == "first_token_timeout" else PATIENT
    gateway = await open_gateway({"first": upstream.url, "second": second.url}, timeouts=timeouts)
    upstream.always(answer)
    status, body, headers = await _ask(gateway, stream=True)
    assert status == 200
    assert body.endswith(b"data: [DONE]\n\n")
    receipt = await gateway.receipt(headers["x-request-id"])
    assert [attempt.target for attempt in receipt.attempts] == ["first", "second"]
    assert receipt.attempts[0].fault == fault
    assert (receipt.attempts[0].charge == 0) is free
    assert receipt.outcome is Outcome.COMPLETE


async def test_when_nobody_is_left_the_caller_gets_503_with_the_reason(open_gateway: Open) -> None:
    gateway = await open_gateway({"gone": unreachable_url()})
    status, body, headers = await _ask(gateway)
    error = json.loads(body)["error"]
    assert status == 503
    assert "gone" in error["message"]
    assert int(headers["retry-after"]) >= 1
    receipt = await gateway.receipt(headers["x-request-id"])
    assert (receipt.outcome, receipt.charge, receipt.status) == (Outcome.BROKEN, 0, 503)


@pytest.mark.parametrize("ending", [Finish(), Reset(), Hang()], ids=["FIN", "RST", "stall"])
async def test_a_stream_that_breaks_is_never_presented_as_success(
    open_gateway: Open, upstream: ScriptedUpstream, ending: Finish | Reset | Hang
) -> None:
    gateway = await open_gateway({"home": upstream.url}, timeouts=PATIENT.replace("idle_s: 60", "idle_s: 2"))
    upstream.will(broken_stream(["one", " two", " three"], ending))
    status, body, headers = await _ask(gateway, stream=True)
    assert status == 200
    assert b" three" in body
    assert b"[DONE]" not in body
    last = body.rstrip().rpartition(b"data: ")[2]
    assert json.loads(last)["error"]["code"] in {"cut", "idle_timeout"}
    receipt = await gateway.receipt(headers["x-request-id"])
    assert receipt.outcome is Outcome.BROKEN
    assert receipt.attempts[0].usage.output >= 3
    assert receipt.charge > 0


async def test_the_sdk_raises_on_a_broken_stream(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.will(broken_stream(["one"], Finish()))
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key) as client:
        answer = await client.chat.completions.create(**ASK, stream=True)
        with pytest.raises(openai.APIError):
            async for _ in answer:
                pass


async def test_a_stream_whose_end_is_said_but_not_marked_is_complete(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.will(stream(words=("one",), done=False))
    _, body, headers = await _ask(gateway, stream=True)
    assert b'"error"' not in body
    assert (await gateway.receipt(headers["x-request-id"])).outcome is Outcome.COMPLETE


async def test_half_a_body_is_never_a_200(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.will([*whole(length=5000), Finish()])
    status, body, headers = await _ask(gateway)
    assert status == 502
    assert json.loads(body)["error"]["code"] in {"cut", "invalid_answer"}
    assert (await gateway.receipt(headers["x-request-id"])).charge > 0


async def test_a_target_that_failed_five_times_rests_and_serves_again(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.always(refusal(500))
    for _ in range(3):  # each asks once more but for the last, whose first failure is the fifth in a row
        assert (await _ask(gateway))[0] == 502
    probes = 0
    while (told := await _ask(gateway))[0] == 502:  # who comes after a second may be the probe: nobody else is there
        probes += 1
    status, body, headers = told
    assert status == 503
    assert b"circuit is open" in body
    assert 1 <= int(headers["retry-after"]) <= 60
    assert len(upstream.heard) == 5 + probes
    upstream.always(whole())
    for _ in range(100):
        if (await _ask(gateway))[0] == 200:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it never served again")


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_one_failure_in_passing_is_not_seen_by_the_caller(
    gateway: GatewayProcess, upstream: ScriptedUpstream, status: int
) -> None:
    upstream.will(refusal(status), whole())
    answered, _, headers = await _ask(gateway)
    assert (answered, headers["x-breakeven-attempts"]) == (200, "2")
    receipt = await gateway.receipt(headers["x-request-id"])
    assert [(attempt.charge > 0, attempt.outcome) for attempt in receipt.attempts] == [
        (False, Outcome.REFUSED),
        (True, Outcome.COMPLETE),
    ]


async def test_a_second_that_the_only_target_asks_for_is_waited_for_and_an_hour_is_not(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    upstream.will(refusal(429, headers=(("retry-after", "1"),)), whole())
    assert (await _ask(gateway))[0] == 200
    assert loop.time() - began_s >= 1.0
    upstream.will(refusal(429, headers=(("retry-after", "3600"),)))
    status, _, headers = await _ask(gateway)
    assert status == 429
    assert 1 <= int(headers["retry-after"]) <= 60
    assert (await _ask(gateway))[0] == 503
    assert len(upstream.heard) == 3


async def test_an_account_without_money_is_asked_once_and_left_aside_with_all_its_targets(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    gateway = await open_gateway({"first": upstream.url, "second": second.url})
    gone = {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "param": None}}
    upstream.always(refusal(429, body=json.dumps({"error": {**gone["error"], "code": "insufficient_quota"}}).encode()))
    second.always(whole())
    for _ in range(4):
        status, _, headers = await _ask(gateway)
        assert (status, headers["x-breakeven-target"]) == (200, "second")
    assert len(upstream.heard) == 1


async def test_an_engine_that_says_it_is_well_and_gives_nothing_is_out_after_one_vain_wait(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    gateway = await open_gateway({"zombie": upstream.url, "second": second.url}, timeouts=BRIEF)
    upstream.always(stream(first_s=60))
    for number in range(3):
        status, body, headers = await _ask(gateway, stream=True)
        assert (status, headers["x-breakeven-target"]) == (200, "second")
        assert body.endswith(b"data: [DONE]\n\n")
        assert headers["x-breakeven-attempts"] == ("1" if number else "2")
    assert len(upstream.heard) == 1


async def test_a_refusal_of_what_a_request_says_is_passed_on_with_the_sellers_words(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    gateway = await open_gateway({"first": upstream.url, "second": second.url})
    words = {"message": "Filtered: violence", "type": "invalid_request_error", "param": "prompt"}
    body = json.dumps({"error": {**words, "code": "content_filter"}}).encode()
    upstream.always(refusal(400, body=body))
    status, answer, headers = await _ask(gateway)
    assert (status, answer) == (400, body)
    assert not second.heard
    receipt = await gateway.receipt(headers["x-request-id"])
    assert (receipt.attempts[0].fault, receipt.charge) == ("content_refused", 0)
