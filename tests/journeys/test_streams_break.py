"""A stream that breaks under each `recovery`: the caller has the whole answer or is told that it has not, and what the
targets would bill is in the books."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.pricing.rate_card import RateCard
from tests.gateway_process import GatewayProcess
from tests.journeys.conftest import Open
from tests.oracle import broken_ones, joined, proven, settled_books
from tests.upstream import (
    DONE,
    Answer,
    Finish,
    Hang,
    Reset,
    ScriptedUpstream,
    Step,
    broken_stream,
    chunk,
    event,
    part,
    stream,
    stream_head,
)

PRICE = RateCard.of(prompt=Decimal(1), cached_prompt=Decimal("0.1"), output=Decimal(10))
BUDGET = "budgets: {all-of-it: {usd: 50, every: month}}"
SAID = ("one", " two", " thr")
TEXT = "one two three 🚀"
ANEW = ("one t", "wo three", " 🚀")

#: Each way of breaking after these words; the last leaves half of a character on the wire.
BREAKS: dict[str, Step | list[Step]] = {
    "FIN": Finish(),
    "RST": Reset(),
    "stall": Hang(),
    "no JSON": part(b"data: {broken\n\n"),
    "an error inside": part(event({"error": {"message": "engine died", "type": "server_error", "code": 500}})),
    "half a character": [part(chunk("ee 🚀")[: chunk("ee 🚀").index("🚀".encode()) + 2]), Finish()],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """What a caller got."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        said = [event.removeprefix("data: ") for event in self.body.decode().split("\n\n")]
        return [json.loads(each) for each in said if each.startswith("{")]

    @property
    def text(self) -> str:
        choices = [choice for event in self.events for choice in event.get("choices", ())]
        return "".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices)

    @property
    def errors(self) -> list[str]:
        return [event["error"]["code"] for event in self.events if "error" in event]

    @property
    def is_whole(self) -> bool:
        return self.body.endswith(DONE) and self.body.count(DONE) == 1 and not self.errors


async def ask(gateway: GatewayProcess, *, completion: bool = False) -> Got:
    question: dict[str, Any] = (
        {"prompt": "Say: "} if completion else {"messages": [{"role": "user", "content": "hello"}]}
    )
    path = "/v1/completions" if completion else "/v1/chat/completions"
    body = {"model": "chat", "stream": True, "max_tokens": 400, **question}
    async with gateway.session() as session, session.post(path, json=body) as answer:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Got(status=answer.status, headers=headers, body=await answer.read())


def breaking(how: Step | list[Step], words: Sequence[str] = SAID) -> Answer:
    steps = how if isinstance(how, list) else [how]
    return [*broken_stream(words, steps[0]), *steps[1:]]


def as_completion(answer: Answer) -> Answer:
    """The same stream of a chat, spelled as a completion's."""
    return [_respelled(step) for step in answer]


def _respelled(step: Step) -> Step:
    raw = getattr(step, "raw", b"")
    said = raw.partition(b"data: ")[2].partition(b"\n\n")[0]
    if not said.startswith(b'{"id"'):
        return step
    try:
        spoken = json.loads(said)
    except ValueError:
        return step
    for choice in spoken["choices"]:
        choice["text"] = choice.pop("delta").get("content", "")
    return part(event(spoken), tokens=getattr(step, "tokens", 0))


async def _cut_off(gateway: GatewayProcess, *, completion: bool) -> None:
    with contextlib.suppress(aiohttp.ClientError):
        assert not (await ask(gateway, completion=completion)).is_whole


async def in_the_books(gateway: GatewayProcess, *heard: ScriptedUpstream, count: int) -> dict[str, Receipt]:
    """All receipts; nothing is lost, double, invented, wrong or out of bounds, and the books prove themselves."""
    await settled_books(gateway)
    receipts = await gateway.receipts(count)
    difference = joined([each for one in heard for each in one.heard], receipts, price=PRICE)
    assert not difference, difference
    assert broken_ones(proven(gateway)) == []
    return {receipt.request_id: receipt for receipt in receipts}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("recovery", ["restart", "buffer", "continue"])
async def test_whichever_way_a_stream_breaks_the_caller_gets_the_whole_answer_and_both_are_booked(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream, recovery: str
) -> None:
    extra = f"defaults: {{recovery: {recovery}}}\n{BUDGET}"
    gateway = await open_gateway({"first": upstream.url, "second": second.url}, extra=extra)
    goes_on = recovery == "continue"
    spelled = as_completion if goes_on else list
    second.always(spelled(stream(("ee", " 🚀") if goes_on else ANEW)))
    asked: list[str] = []
    for name, how in BREAKS.items():
        # What the first answers well in between keeps its circuit closed.
        upstream.will(spelled(breaking(how)), spelled(stream()))
        got = await ask(gateway, completion=goes_on)
        assert (got.text, got.is_whole) == (TEXT, True), name
        assert got.status == 200
        if recovery == "buffer":
            assert (got.headers["x-breakeven-target"], got.headers["x-breakeven-attempts"]) == ("second", "2")
            assert "x-breakeven-charge-usd" in got.headers
        else:
            assert got.headers["x-breakeven-target"] == "first"
        asked.append(got.headers["x-request-id"])
        assert (await ask(gateway, completion=goes_on)).is_whole
    receipts = await in_the_books(gateway, upstream, second, count=2 * len(BREAKS))
    for request_id, name in zip(asked, BREAKS, strict=True):
        broke, ended = receipts[request_id].attempts
        assert (broke.target, broke.outcome) == ("first", Outcome.BROKEN), name
        assert broke.usage.output >= len(SAID)
        assert (ended.target, ended.outcome, ended.usage.output) == ("second", Outcome.COMPLETE, 2 if goes_on else 3)
        assert receipts[request_id].outcome is Outcome.COMPLETE
    if goes_on:
        sent = second.heard[0].json
        assert sent["prompt"] == "Say: one two thr"
        assert sent["max_tokens"] == 400 - receipts[asked[0]].attempts[0].usage.output


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", [Finish(), Reset(), Hang()], ids=["FIN", "RST", "stall"])
async def test_what_cannot_be_recovered_has_one_error_event_and_no_end(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream, how: Step
) -> None:
    extra = f"defaults: {{recovery: restart}}\n{BUDGET}"
    gateway = await open_gateway({"first": upstream.url, "second": second.url}, extra=extra)
    upstream.will(breaking(how), breaking(how))
    second.will(stream(("one", " too")), breaking(how, ("one",)))
    unlike = await ask(gateway)
    assert (unlike.text, unlike.errors) == ("one two thr", ["not_reproduced"])
    again = await ask(gateway)
    assert again.text == "one two thr"
    assert again.errors == ["idle_timeout" if isinstance(how, Hang) else "cut"]
    assert DONE not in unlike.body + again.body
    receipts = await in_the_books(gateway, upstream, second, count=2)
    for got in (unlike, again):
        receipt = receipts[got.headers["x-request-id"]]
        assert (receipt.outcome, receipt.status) == (Outcome.BROKEN, 200)
        assert [attempt.outcome for attempt in receipt.attempts] == [Outcome.BROKEN, Outcome.BROKEN]
        assert all(attempt.charge > 0 for attempt in receipt.attempts)


async def test_a_held_back_answer_that_nobody_can_give_is_an_error_with_a_status(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    gateway = await open_gateway({"first": upstream.url, "second": second.url}, extra="defaults: {recovery: buffer}")
    upstream.will(breaking(Finish()))
    second.will(breaking(Reset()))
    got = await ask(gateway)
    assert (got.status, json.loads(got.body)["error"]["code"]) == (502, "cut")
    (receipt,) = (await in_the_books(gateway, upstream, second, count=1)).values()
    assert [attempt.outcome for attempt in receipt.attempts] == [Outcome.BROKEN, Outcome.BROKEN]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("recovery", ["restart", "buffer", "continue"])
async def test_kill_9_while_the_second_answers_books_both(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream, recovery: str
) -> None:
    extra = f"defaults: {{recovery: {recovery}}}\n{BUDGET}"
    gateway = await open_gateway({"first": upstream.url, "second": second.url}, extra=extra)
    spelled = as_completion if recovery == "continue" else list
    upstream.will(spelled(breaking(Finish())))
    second.will(spelled([stream_head(), part(chunk("one two three"), tokens=1), Hang()]))
    async with asyncio.TaskGroup() as group:
        group.create_task(_cut_off(gateway, completion=recovery == "continue"))
        await second.heard_one()
        gateway.kill()
    await gateway.start()
    (receipt,) = (await in_the_books(gateway, upstream, second, count=1)).values()
    assert [(attempt.target, attempt.outcome) for attempt in receipt.attempts] == [
        ("first", Outcome.BROKEN),
        ("second", Outcome.INTERRUPTED),
    ]
    assert all(attempt.charge > 0 for attempt in receipt.attempts)
