"""`app.flows.stream`: a stream that breaks after its first byte is recovered as its route says, or called broken."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from app.domain.errors import CallerLeft, FaultKind, TargetFailure
from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.routing.facts import Endpoint
from app.domain.routing.policy import Policy, Recovery
from app.domain.target import Capability, Target
from app.domain.telling import KEPT_MOST_CHARS
from app.flows.answer import answer
from app.flows.draft import STATUS_CALLER_LEFT
from app.flows.gateway import Asked
from app.flows.stream import HELD_BACK_MOST_BYTES
from app.providers.engines.families import FAMILIES
from app.providers.scripted import Script
from tests.fakes.budget_book import MemoryBudgetBook
from tests.flows.house import Caller, House, a_house, asked
from tests.flows.test_hold import a_budget, kept
from tests.makers import CARD, a_policy, a_route, a_target

TEXT = "Grüße aus 東京, 🚀 it is late here."
WHOLE = Script(words=("Grü", "ße aus 東", "京, 🚀 it", " is late", " here."))
OTHERWISE_CUT = Script(words=("Grüße", " aus", " 東京,", " 🚀", " it is late here."))
#: Every way in which a target breaks a stream after its first byte.
BREAKS = (FaultKind.CUT, FaultKind.IDLE_TIMEOUT, FaultKind.INVALID_ANSWER)


def broken(script: Script = WHOLE, *, after: int = 3, fault: FaultKind = FaultKind.CUT) -> Script:
    return replace(script, fault=fault, fault_after=after)


def on_vllm(name: str) -> Target:
    return replace(a_target(name), kind="vllm", family=FAMILIES["vllm"])


def routed(recovery: Recovery, *targets: Target, attempts: int = 3) -> Policy:
    names = tuple(target.name for target in targets)
    return a_policy(*targets, route=a_route(*names, recovery=recovery, attempts=attempts))


def a_recovering_house(recovery: Recovery, attempts: int = 3, **scripts: list[Script]) -> House:
    targets = [on_vllm(name) for name in scripts]
    return a_house(scripts, policy=routed(recovery, *targets, attempts=attempts))


def events(caller: Caller) -> list[dict[str, Any]]:
    raw = b"".join(caller.sent).decode()
    return [json.loads(each) for event in raw.split("\n\n") if (each := event.removeprefix("data: ")).startswith("{")]


def text(caller: Caller) -> str:
    choices = [choice for event in events(caller) for choice in event["choices"]]
    return "".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices)


def is_whole(caller: Caller) -> bool:
    return caller.ended and b"".join(caller.sent).count(b"data: [DONE]") == 1


def receipt_of(house: House) -> Receipt:
    """The one receipt; each attempt is what the target itself would bill, or more."""
    (receipt,) = house.journal.disk.receipts
    assert set(house.gateway.fleet.in_flight().values()) == {0}
    assert [deed.attempt_id for deed in house.provider.deeds] == [each.attempt_id for each in receipt.attempts]
    for deed, attempt in zip(house.provider.deeds, receipt.attempts, strict=True):
        assert attempt.usage.output >= (deed.billed.output if deed.billed else 0)
        assert deed.complete or deed.hung_up or not deed.worked
    return receipt


def outcomes(receipt: Receipt) -> list[tuple[str, Outcome, str | None]]:
    return [(each.target, each.outcome, each.fault) for each in receipt.attempts]


async def failed(house: House, caller: Caller, request: Asked | None = None) -> TargetFailure:
    with pytest.raises(TargetFailure) as caught:
        await answer(request or asked(house, stream=True), caller, house.gateway)
    assert not caller.ended
    assert b"[DONE]" not in b"".join(caller.sent)
    return caught.value


# ── restart ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", BREAKS)
@pytest.mark.parametrize("recovery", [Recovery.RESTART, Recovery.BUFFER])
async def test_another_target_ends_the_answer_and_both_attempts_are_booked(
    recovery: Recovery, fault: FaultKind
) -> None:
    house = a_recovering_house(recovery, first=[broken(fault=fault)], second=[OTHERWISE_CUT])
    caller = Caller()
    await answer(asked(house, stream=True), caller, house.gateway)
    assert text(caller) == TEXT
    assert is_whole(caller)
    receipt = receipt_of(house)
    assert outcomes(receipt) == [("first", Outcome.BROKEN, fault), ("second", Outcome.COMPLETE, None)]
    assert (receipt.outcome, receipt.status) == (Outcome.COMPLETE, 200)
    assert all(attempt.charge > 0 for attempt in receipt.attempts)


@pytest.mark.parametrize("after", range(1, 5))
async def test_an_answer_that_broke_anywhere_is_ended_without_a_word_twice(after: int) -> None:
    house = a_recovering_house(Recovery.RESTART, first=[broken(after=after)], second=[OTHERWISE_CUT])
    caller = Caller()
    await answer(asked(house, stream=True), caller, house.gateway)
    assert text(caller) == TEXT
    assert sum("role" in choice["delta"] for event in events(caller) for choice in event["choices"]) == 1


async def test_who_has_the_same_events_gets_them_untouched_from_the_border_on() -> None:
    house = a_recovering_house(Recovery.RESTART, first=[broken(after=2)], second=[WHOLE])
    caller = Caller()
    await answer(asked(house, stream=True), caller, house.gateway)
    direct = a_house({"second": [WHOLE]})
    untouched = Caller()
    await answer(asked(direct, stream=True), untouched, direct.gateway)
    assert b"".join(caller.sent[-5:]) == b"".join(untouched.sent[-5:]).replace(b"/1", b"/2")


async def test_what_is_not_reproduced_ends_in_an_error_of_its_own_and_is_asked_of_nobody_else() -> None:
    unlike = Script(words=("Grüße", " aus", " Kyoto"))
    house = a_recovering_house(Recovery.RESTART, first=[broken()], second=[unlike], third=[WHOLE])
    caller = Caller()
    failure = await failed(house, caller)
    assert (failure.kind, failure.target) == (FaultKind.NOT_REPRODUCED, "second")
    assert text(caller) == "Grüße aus 東京, 🚀 it"
    receipt = receipt_of(house)
    assert outcomes(receipt) == [("first", Outcome.BROKEN, "cut"), ("second", Outcome.BROKEN, "not_reproduced")]
    assert (receipt.outcome, receipt.status) == (Outcome.BROKEN, 200)


async def test_an_answer_that_is_shorter_than_what_was_sent_is_not_reproduced() -> None:
    house = a_recovering_house(Recovery.RESTART, first=[broken()], second=[Script(words=("Grüße", " aus"))])
    assert (await failed(house, Caller())).kind is FaultKind.NOT_REPRODUCED


async def test_a_target_that_only_answers_otherwise_does_not_rest_for_it() -> None:
    house = a_recovering_house(Recovery.RESTART, first=[broken()], second=[Script(words=("No",))])
    for _ in range(2):
        await failed(house, Caller())
    assert not house.gateway.fleet.resting()["second"]


async def test_a_third_target_ends_what_two_have_broken() -> None:
    house = a_recovering_house(
        Recovery.RESTART, first=[broken(after=3)], second=[broken(OTHERWISE_CUT, after=2)], third=[OTHERWISE_CUT]
    )
    caller = Caller()
    await answer(asked(house, stream=True), caller, house.gateway)
    assert text(caller) == TEXT
    assert [outcome for _, outcome, _ in outcomes(receipt_of(house))] == [
        Outcome.BROKEN,
        Outcome.BROKEN,
        Outcome.COMPLETE,
    ]


@pytest.mark.parametrize("recovery", [Recovery.RESTART, Recovery.BUFFER, Recovery.CONTINUE])
async def test_after_as_many_breaks_as_the_route_has_attempts_the_last_stands(recovery: Recovery) -> None:
    scripts = {name: [broken(after=after)] for after, name in enumerate(("a", "b", "c", "d"), start=1)}
    house = a_recovering_house(recovery, attempts=3, **scripts)
    caller = Caller()
    failure = await failed(house, caller)
    assert (failure.kind, failure.target) == (FaultKind.CUT, "c")
    receipt = receipt_of(house)
    assert [target for target, _, _ in outcomes(receipt)] == ["a", "b", "c"]
    assert (receipt.outcome, receipt.status) == (Outcome.BROKEN, 502 if recovery is Recovery.BUFFER else 200)


@pytest.mark.parametrize("recovery", [Recovery.RESTART, Recovery.BUFFER, Recovery.CONTINUE])
async def test_without_a_retry_budget_the_break_stands(recovery: Recovery) -> None:
    house = a_recovering_house(recovery, first=[broken()], second=[WHOLE])
    at_s = house.gateway.clock.monotonic_s()
    while house.gateway.retries.take(at_s=at_s):
        pass
    assert (await failed(house, Caller())).kind is FaultKind.CUT
    assert [call.target.name for call in house.provider.calls] == ["first"]


async def test_when_nobody_can_answer_anew_the_caller_is_told_of_its_own_stream() -> None:
    second = Script(fault=FaultKind.BAD_REQUEST)
    house = a_recovering_house(Recovery.RESTART, first=[broken()], second=[second])
    failure = await failed(house, Caller())
    assert (failure.kind, failure.target) == (FaultKind.CUT, "first")
    receipt = receipt_of(house)
    assert receipt.outcome is Outcome.BROKEN
    assert outcomes(receipt)[1] == ("second", Outcome.REFUSED, "bad_request")


@pytest.mark.parametrize("recovery", [Recovery.RESTART, Recovery.BUFFER, Recovery.CONTINUE])
async def test_before_the_first_byte_the_next_candidate_answers_as_ever(recovery: Recovery) -> None:
    house = a_recovering_house(recovery, first=[Script(fault=FaultKind.OVERLOADED)], second=[WHOLE])
    caller = Caller()
    await answer(asked(house, stream=True), caller, house.gateway)
    assert (text(caller), is_whole(caller)) == (TEXT, True)
    assert house.provider.calls[1].prefix == ""


@pytest.mark.parametrize("recovery", [Recovery.RESTART, Recovery.BUFFER, Recovery.CONTINUE])
async def test_a_caller_who_leaves_while_another_is_asked_pays_both_and_both_are_told(recovery: Recovery) -> None:
    house = a_recovering_house(recovery, first=[broken()], second=[Script(first_s=25)])
    caller = Caller()
    work = asyncio.create_task(answer(asked(house, stream=True), caller, house.gateway))
    while len(house.provider.calls) < 2:
        await asyncio.sleep(0)
    caller.leave()
    with pytest.raises(CallerLeft):
        await asyncio.wait_for(work, 10)
    receipt = receipt_of(house)
    assert [outcome for _, outcome, _ in outcomes(receipt)] == [Outcome.BROKEN, Outcome.ABANDONED]
    assert (receipt.outcome, receipt.status) == (Outcome.ABANDONED, STATUS_CALLER_LEFT)
    assert all(attempt.charge > 0 for attempt in receipt.attempts)
    assert house.provider.deeds[1].hung_up


@pytest.mark.parametrize("recovery", [Recovery.RESTART, Recovery.CONTINUE])
async def test_a_process_that_dies_in_the_second_attempt_has_booked_both(recovery: Recovery) -> None:
    house = a_recovering_house(recovery, first=[broken()], second=[Script(first_s=25)])
    work = asyncio.create_task(answer(asked(house, stream=True), Caller(), house.gateway))
    while len(house.provider.calls) < 2:
        await asyncio.sleep(0)
    (intent,) = house.journal.disk.intents.values()
    assert outcomes(intent) == [("first", Outcome.BROKEN, "cut"), ("second", Outcome.INTERRUPTED, None)]
    assert all(attempt.charge > 0 for attempt in intent.attempts)
    work.cancel()


async def test_more_than_is_kept_of_an_answer_is_not_recovered() -> None:
    long = Script(words=("w" * (KEPT_MOST_CHARS // 2 + 1),) * 3)
    house = a_recovering_house(Recovery.RESTART, first=[broken(long, after=2)], second=[long])
    assert (await failed(house, Caller())).target == "first"
    assert len(house.provider.calls) == 1


# ── buffer ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_nothing_is_sent_before_the_stream_is_whole_and_its_charge_stands_in_front() -> None:
    house = a_recovering_house(Recovery.BUFFER, home=[replace(WHOLE, between_s=0.02)])
    caller = Caller()
    async with asyncio.TaskGroup() as group:
        story = group.create_task(answer(asked(house, stream=True), caller, house.gateway))
        while not house.provider.deeds or house.provider.deeds[0].output_tokens < 3:
            assert not caller.begun
            await asyncio.sleep(0)
        await story
    assert (text(caller), is_whole(caller), len(caller.sent)) == (TEXT, True, 1)
    assert caller.opening is not None
    assert caller.opening.charge == receipt_of(house).charge > 0


async def test_a_stream_too_long_to_hold_back_begins_and_then_breaks_as_any() -> None:
    long = Script(words=("w" * (HELD_BACK_MOST_BYTES // 3),) * 5)
    house = a_recovering_house(Recovery.BUFFER, first=[broken(long, after=4), long], second=[WHOLE])
    caller = Caller()
    failure = await failed(house, caller)
    assert (failure.target, len(house.provider.calls)) == ("first", 1)
    assert text(caller) == "".join(long.words[:4])
    assert caller.opening is not None
    assert caller.opening.charge is None
    whole = Caller()
    await answer(asked(house, stream=True, request_id="r2"), whole, house.gateway)
    assert (text(whole) == "".join(long.words), is_whole(whole)) == (True, True)


async def test_a_caller_who_leaves_while_its_answer_is_held_back_is_noticed_at_once() -> None:
    house = a_recovering_house(Recovery.BUFFER, home=[replace(WHOLE, between_s=20)])
    caller = Caller()
    asyncio.get_running_loop().call_later(0.05, caller.leave)
    with pytest.raises(CallerLeft):
        await asyncio.wait_for(answer(asked(house, stream=True), caller, house.gateway), 10)
    assert receipt_of(house).outcome is Outcome.ABANDONED


# ── continue ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _plain(house: House, **facts: object) -> Asked:
    """A request whose body says what its facts do."""
    request = asked(house, stream=True, **facts)
    if request.facts.endpoint is Endpoint.COMPLETIONS:
        return replace(request, fields={"model": b'"chat"', "prompt": b'"Say: "'})
    return request


@pytest.mark.parametrize("fault", BREAKS)
@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.COMPLETIONS])
async def test_another_target_goes_on_where_one_broke_off(endpoint: Endpoint, fault: FaultKind) -> None:
    house = a_recovering_house(
        Recovery.CONTINUE, first=[broken(fault=fault)], second=[Script(words=(" is late", " here."))]
    )
    caller = Caller()
    await answer(_plain(house, endpoint=endpoint, output_tokens_most=100), caller, house.gateway)
    assert (text(caller), is_whole(caller)) == (TEXT, True)
    first, second = house.provider.calls
    assert (first.prefix, second.prefix) == ("", "Grüße aus 東京, 🚀 it")
    receipt = receipt_of(house)
    assert second.output_tokens_cap == 100 - receipt.attempts[0].usage.output
    assert outcomes(receipt) == [("first", Outcome.BROKEN, fault), ("second", Outcome.COMPLETE, None)]


async def test_a_third_goes_on_where_the_second_broke_off() -> None:
    house = a_recovering_house(
        Recovery.CONTINUE,
        first=[broken(after=2)],
        second=[Script(words=("京,", " 🚀", "!"), fault=FaultKind.CUT, fault_after=2)],
        third=[Script(words=(" it is late", " here."))],
    )
    caller = Caller()
    await answer(asked(house, stream=True), caller, house.gateway)
    assert (text(caller), is_whole(caller)) == (TEXT, True)
    assert [call.prefix for call in house.provider.calls] == ["", "Grüße aus 東", "Grüße aus 東京, 🚀"]


async def test_only_targets_that_can_go_on_are_asked_to() -> None:
    targets = [on_vllm("first"), a_target("deaf"), on_vllm("able")]
    scripts = {"first": [broken()], "deaf": [WHOLE], "able": [Script(words=(" is late", " here."))]}
    house = a_house(scripts, policy=routed(Recovery.CONTINUE, *targets))
    caller = Caller()
    await answer(asked(house, stream=True), caller, house.gateway)
    assert text(caller) == TEXT
    assert [call.target.name for call in house.provider.calls] == ["first", "able"]


@pytest.mark.parametrize(
    ("facts", "fields"),
    [
        ({"n": 2}, {}),
        ({"has_tools": True}, {}),
        ({"json_schema": True}, {}),
        ({}, {"response_format": b"{}"}),
        ({"endpoint": Endpoint.COMPLETIONS}, {"prompt": b'["one", "two"]'}),
        ({"endpoint": Endpoint.COMPLETIONS}, {"prompt": b'"one"', "echo": b"true"}),
    ],
    ids=["n", "tools", "json", "a format", "prompts", "echo"],
)
async def test_what_is_more_than_one_plain_text_is_not_gone_on_with(
    facts: dict[str, object], fields: dict[str, bytes]
) -> None:
    able = replace(
        on_vllm("first"),
        can=frozenset({Capability.CHAT, Capability.COMPLETIONS, Capability.TOOLS, Capability.JSON_SCHEMA}),
    )
    policy = routed(Recovery.CONTINUE, able, replace(able, name="second"))
    house = a_house({"first": [broken()], "second": [WHOLE]}, policy=policy)
    request = asked(house, stream=True, **facts)
    failure = await failed(house, Caller(), replace(request, fields={**request.fields, **fields}))
    assert (failure.kind, failure.target) == (FaultKind.CUT, "first")
    assert len(house.provider.calls) == 1


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _under_budget(recovery: Recovery, amount: int) -> Policy:
    names = ("first", "second")
    targets = [replace(on_vllm(name), context_tokens=8_192) for name in names]
    policy = a_policy(*targets, route=a_route(*names, recovery=recovery, output_tokens_most=500))
    return replace(policy, budgets={"team": a_budget(amount)})


@pytest.mark.parametrize("recovery", [Recovery.RESTART, Recovery.BUFFER, Recovery.CONTINUE])
async def test_the_second_attempt_is_held_for_before_it_is_dispatched(recovery: Recovery) -> None:
    second = Script(words=(" is late", " here.")) if recovery is Recovery.CONTINUE else WHOLE
    policy = _under_budget(recovery, Nanodollars(1_000_000_000))
    house, book = a_house({"first": [broken()], "second": [second]}, policy=policy), MemoryBudgetBook()
    caller = Caller()
    async with kept(house, book):
        await answer(asked(house, stream=True), caller, house.gateway)
    assert text(caller) == TEXT
    receipt = receipt_of(house)
    (hold,) = receipt.holds
    alone = a_house({"first": [WHOLE], "second": [second]}, policy=policy)
    async with kept(alone, MemoryBudgetBook()):
        await answer(asked(alone, stream=True), Caller(), alone.gateway)
    (single,) = receipt_of(alone).holds
    prefix = house.provider.calls[1].prefix.encode()
    assert bool(prefix) is (recovery is Recovery.CONTINUE)
    more = CARD.bound(prompt_tokens_most=len(prefix), output_tokens_most=0)
    assert receipt.charge <= hold.amount
    assert hold.amount >= single.amount + receipt.attempts[0].charge + more - 1


@pytest.mark.parametrize("recovery", [Recovery.RESTART, Recovery.BUFFER, Recovery.CONTINUE])
async def test_a_budget_without_room_for_the_second_attempt_lets_the_break_stand(recovery: Recovery) -> None:
    measure = a_house({"first": [WHOLE], "second": [WHOLE]}, policy=_under_budget(recovery, 1_000_000_000))
    async with kept(measure, MemoryBudgetBook()):
        await answer(asked(measure, stream=True), Caller(), measure.gateway)
    (one,) = receipt_of(measure).holds
    house = a_house({"first": [broken()], "second": [WHOLE]}, policy=_under_budget(recovery, one.amount))
    async with kept(house, MemoryBudgetBook()):
        assert (await failed(house, Caller())).kind is FaultKind.CUT
    receipt = receipt_of(house)
    assert [target for target, _, _ in outcomes(receipt)] == ["first"]
    assert receipt.charge <= receipt.holds[0].amount
