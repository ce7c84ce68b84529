"""A stream that breaks under each `recovery`, and an answer in one piece: the caller has the whole answer or is told
that it has not, and what the targets would bill is in the books."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.pricing.rate_card import RateCard
from tests.gateway_process import PATIENT, GatewayProcess
from tests.journeys.conftest import Open
from tests.oracle import broken_ones, joined, proven, settled_books
from tests.upstream import (
    DONE,
    Answer,
    Finish,
    Hang,
    Heard,
    Pause,
    Reset,
    ScriptedUpstream,
    Step,
    broken_stream,
    chunk,
    completion,
    event,
    part,
    refusal,
    stream,
    stream_head,
    whole,
)

PRICE = RateCard.of(prompt=Decimal(1), cached_prompt=Decimal("0.1"), output=Decimal(10))
RECOVERIES = ("restart", "buffer", "continue")
SOON = PATIENT.replace("idle_s: 60", "idle_s: 2")
BUDGET = "budgets: {all-of-it: {usd: 50, every: month}}"
SAID = ("one", " two", " thr")
TEXT = "one two three 🚀"
ANEW = ("one t", "wo three", " 🚀")
REST = ("ee", " 🚀")

#: Each way of breaking after these words; the last leaves half of a character on the wire.
BREAKS: dict[str, Step | list[Step]] = {
    "FIN": Finish(),
    "RST": Reset(),
    "stall": Hang(),
    "no JSON": part(b"data: {broken\n\n"),
    "an error inside": part(event({"error": {"message": "engine died", "type": "server_error", "code": 500}})),
    "half a character": [part(chunk("ee 🚀")[: chunk("ee 🚀").index("🚀".encode()) + 2]), Finish()],
}
BODY = completion(TEXT, output=4)
#: Each way in which a body is no answer; of the first ones, 4 tokens came.
BODIES: dict[str, Answer] = {
    "FIN": [*whole(BODY[:-30], tokens=4, length=len(BODY)), Finish()],
    "RST": [*whole(BODY[:-30], tokens=4, length=len(BODY)), Pause(seconds=0.02), Reset()],
    "stall": [*whole(BODY[:-30], tokens=4, length=len(BODY)), Hang()],
    "too short a length": whole(BODY, tokens=4, length=len(BODY) - 9),
    "no JSON": whole(b"<html>502 Bad Gateway</html>", tokens=0),
    "nothing": whole(b"", tokens=0),
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


async def open_both(open_gateway: Open, first: ScriptedUpstream, second: ScriptedUpstream) -> GatewayProcess:
    """A gateway in front of two targets, under a budget, with two models for each recovery, named for it: one that is
    patient and one that is not."""
    rules = "      - {name: all, use: [first, second]}"
    models = "".join(
        f"\n  {recovery}{kind}:\n    recovery: {recovery}\n    timeouts: {timeouts}\n    rules:\n{rules}"
        for recovery in RECOVERIES
        for kind, timeouts in (("", PATIENT), ("-soon", SOON))
    )
    return await open_gateway({"first": first.url, "second": second.url}, rules=rules + models, extra=BUDGET)


async def ask(gateway: GatewayProcess, recovery: str, *, stream: bool = True, stalls: bool = False) -> Got:
    """A chat, or for what goes on a completion: that any target can go on with. Of a target that stalls, soon."""
    question: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}
    path = "/v1/chat/completions"
    if recovery == "continue":
        question, path = {"prompt": "Say: "}, "/v1/completions"
    body = {"model": f"{recovery}-soon" if stalls else recovery, "stream": stream, "max_tokens": 400, **question}
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


async def _cut_off(gateway: GatewayProcess, recovery: str, *, stream: bool = True) -> None:
    with contextlib.suppress(aiohttp.ClientError):
        assert not (await ask(gateway, recovery, stream=stream)).is_whole


async def in_the_books(gateway: GatewayProcess, *heard: ScriptedUpstream, count: int) -> dict[str, Receipt]:
    """All receipts; nothing is lost, double, invented, wrong or out of bounds, and the books prove themselves."""
    await settled_books(gateway)
    receipts = await gateway.receipts(count)
    asked = [each for one in heard for each in one.heard if each.method == "POST"]  # engines are looked at besides
    difference = joined(asked, receipts, price=PRICE)
    assert not difference, difference
    assert broken_ones(proven(gateway)) == []
    return {receipt.request_id: receipt for receipt in receipts}


def _spelled(recovery: str, answer: Answer) -> Answer:
    return as_completion(answer) if recovery == "continue" else answer


async def test_whichever_way_a_stream_breaks_the_caller_gets_the_whole_answer_and_both_are_booked(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    gateway = await open_both(open_gateway, upstream, second)
    broke: dict[str, tuple[str, str]] = {}
    for recovery in RECOVERIES:
        second.always(_spelled(recovery, stream(REST if recovery == "continue" else ANEW)))
        for name, how in BREAKS.items():
            # What the first answers well in between keeps its circuit closed.
            upstream.will(_spelled(recovery, breaking(how)), _spelled(recovery, stream()))
            got = await ask(gateway, recovery, stalls=name == "stall")
            assert (got.status, got.text, got.is_whole) == (200, TEXT, True), (recovery, name)
            target = "second" if recovery == "buffer" else "first"
            assert got.headers["x-breakeven-target"] == target
            assert ("x-breakeven-charge-usd" in got.headers) is (recovery == "buffer")
            broke[got.headers["x-request-id"]] = recovery, name
            assert (await ask(gateway, recovery)).is_whole
    receipts = await in_the_books(gateway, upstream, second, count=2 * len(broke))
    for request_id, (recovery, name) in broke.items():
        first, last = receipts[request_id].attempts
        assert (first.target, first.outcome, first.usage.output >= len(SAID)) == ("first", Outcome.BROKEN, True), name
        made = len(REST if recovery == "continue" else ANEW)
        assert (last.target, last.outcome, last.usage.output) == ("second", Outcome.COMPLETE, made)
        assert receipts[request_id].outcome is Outcome.COMPLETE
        if recovery == "continue":
            (asked,) = [heard.json for heard in second.heard if heard.attempt_id == last.attempt_id]
            assert (asked["prompt"], asked["max_tokens"]) == ("Say: one two thr", 400 - first.usage.output)


async def test_a_body_that_is_no_answer_is_given_by_the_next_and_by_nobody_else_and_each_attempt_is_booked(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    gateway = await open_both(open_gateway, upstream, second)
    ids: list[str] = []
    for name, broken in BODIES.items():
        # What the first answers well in between keeps its circuit closed.
        upstream.will(broken, whole())
        second.will(whole(BODY, tokens=4))
        got = await ask(gateway, "buffer", stream=False, stalls=name == "stall")
        assert (got.status, got.body, got.headers["x-breakeven-target"]) == (200, BODY, "second"), name
        ids.append(got.headers["x-request-id"])
        assert (await ask(gateway, "buffer", stream=False)).status == 200
    upstream.will(BODIES["FIN"])
    second.will(BODIES["RST"])
    neither = await ask(gateway, "restart", stream=False)
    assert (neither.status, json.loads(neither.body)["error"]["code"]) == (502, "cut")
    # And kill -9 while the second answers.
    upstream.will(BODIES["FIN"])
    second.will([*BODIES["stall"][:1], Hang()])
    leaving = asyncio.create_task(_cut_off(gateway, "restart", stream=False))
    await second.heard_one(len(ids) + 2)
    gateway.kill()
    await leaving
    await gateway.start()
    receipts = await in_the_books(gateway, upstream, second, count=2 * len(ids) + 2)
    for request_id in ids:
        receipt = receipts[request_id]
        assert [(attempt.target, attempt.outcome) for attempt in receipt.attempts] == [
            ("first", Outcome.BROKEN),
            ("second", Outcome.COMPLETE),
        ]
        assert receipt.attempts[0].charge > 0
        assert receipt.outcome is Outcome.COMPLETE
    both = receipts.pop(neither.headers["x-request-id"])
    assert [attempt.outcome for attempt in both.attempts] == [Outcome.BROKEN, Outcome.BROKEN]
    (killed,) = [receipt for receipt in receipts.values() if receipt.outcome is Outcome.INTERRUPTED]
    assert [attempt.outcome for attempt in killed.attempts] == [Outcome.BROKEN, Outcome.INTERRUPTED]
    assert all(attempt.charge > 0 for attempt in (*both.attempts, *killed.attempts))


async def test_what_cannot_be_recovered_is_one_error_and_no_end(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    gateway = await open_both(open_gateway, upstream, second)
    codes: dict[str, str] = {}
    for how, code in ((Finish(), "cut"), (Reset(), "cut"), (Hang(), "idle_timeout")):
        upstream.will(breaking(how), breaking(how), stream())
        second.will(stream(("one", " too")), breaking(how, ("one",)))
        unlike, again = [await ask(gateway, "restart", stalls=code == "idle_timeout") for _ in range(2)]
        assert (unlike.text, unlike.errors) == ("one two thr", ["not_reproduced"])
        assert (again.text, again.errors) == ("one two thr", [code])
        assert DONE not in unlike.body + again.body
        codes |= {unlike.headers["x-request-id"]: "not_reproduced", again.headers["x-request-id"]: code}
        assert (await ask(gateway, "restart")).is_whole
    upstream.will(breaking(Finish()))
    second.will(breaking(Reset()))
    held_back = await ask(gateway, "buffer")
    assert (held_back.status, json.loads(held_back.body)["error"]["code"]) == (502, "cut")
    codes[held_back.headers["x-request-id"]] = "cut"
    receipts = await in_the_books(gateway, upstream, second, count=len(codes) + 3)
    for request_id, code in codes.items():
        receipt = receipts[request_id]
        assert [attempt.outcome for attempt in receipt.attempts] == [Outcome.BROKEN, Outcome.BROKEN]
        assert all(attempt.charge > 0 for attempt in receipt.attempts)
        assert (receipt.outcome, receipt.attempts[-1].fault) == (Outcome.BROKEN, code)


async def test_kill_9_while_the_second_answers_books_both(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    gateway = await open_both(open_gateway, upstream, second)
    async with asyncio.TaskGroup() as group:
        for count, recovery in enumerate(RECOVERIES, start=1):
            upstream.will(_spelled(recovery, breaking(Finish())))
            begun = [stream_head(), part(chunk("one two thr"), tokens=1), Hang()]
            second.will(_spelled(recovery, begun))
            group.create_task(_cut_off(gateway, recovery))
            await second.heard_one(count)
        gateway.kill()
    await gateway.start()
    for receipt in (await in_the_books(gateway, upstream, second, count=len(RECOVERIES))).values():
        assert [(attempt.target, attempt.outcome) for attempt in receipt.attempts] == [
            ("first", Outcome.BROKEN),
            ("second", Outcome.INTERRUPTED),
        ]
        assert all(attempt.charge > 0 for attempt in receipt.attempts)


#: At this price and these speeds tokens cost what PRICE says.
ON_VLLM = """
targets:
  first: {{hosting: self_hosted, engine: vllm, url: "{first}", model: m, can: [chat], machine: {{type: box}}}}
  deaf: {{hosting: self_hosted, engine: ollama, url: "{second}", model: m, can: [chat], machine: {{type: box}}}}
  second: {{hosting: self_hosted, engine: vllm, url: "{second}", model: m, can: [chat], machine: {{type: box}}}}
models:
  goes-on:
    recovery: continue
    rules: [{{name: all, use: [first, deaf, second]}}]
rates:
  machines: {{box: {{usd_per_hour: 3.6}}}}
  targets:
    first: {{measured: {{prefill_tokens_per_s: 1000, decode_tokens_per_s: 100}}}}
    deaf: {{measured: {{prefill_tokens_per_s: 1000, decode_tokens_per_s: 100}}}}
    second: {{measured: {{prefill_tokens_per_s: 1000, decode_tokens_per_s: 100}}}}
"""


def _engine(*answers: Answer) -> Callable[[Heard], Answer]:
    """These answers to whoever asks; looks at its pages find none."""
    waiting = deque(answers)
    return lambda heard: refusal(404) if heard.method == "GET" else waiting.popleft()


async def test_a_chat_is_gone_on_with_in_the_words_of_its_engine(
    tmp_path: Path, books_url: str, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    policies, data = tmp_path / "policies", tmp_path / "data"
    policies.mkdir()
    data.mkdir()
    (policies / "all.yaml").write_text(ON_VLLM.format(first=upstream.url, second=second.url))
    upstream.always(_engine(breaking(Reset())))
    second.always(_engine(stream(REST)))
    gateway = GatewayProcess(data=data, policies=policies, database_url=books_url)
    try:
        await gateway.start()
        got = await ask(gateway, "goes-on")
        assert (got.text, got.is_whole) == (TEXT, True)
        receipt = (await in_the_books(gateway, upstream, second, count=1))[got.headers["x-request-id"]]
    finally:
        gateway.stop()
    assert [(attempt.target, attempt.outcome) for attempt in receipt.attempts] == [
        ("first", Outcome.BROKEN),
        ("second", Outcome.COMPLETE),
    ]
    (asked,) = [heard.json for heard in second.heard if heard.method == "POST"]
    assert asked["messages"] == [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "one two thr"}]
    assert (asked["continue_final_message"], asked["add_generation_prompt"]) == (True, False)
    assert asked["max_tokens"] == 400 - receipt.attempts[0].usage.output
