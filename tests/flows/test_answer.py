from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from app.domain.errors import (
    BadRequest,
    CallerLeft,
    FaultKind,
    LedgerUnavailable,
    ModelNotAllowed,
    ModelUnknown,
    NoPlace,
    NoTarget,
    TargetFailure,
)
from app.domain.ledger.receipt import Receipt
from app.domain.limits import RateLimits
from app.domain.metering.measurement import Outcome
from app.domain.routing.policy import Timeouts
from app.domain.target import TargetSeen
from app.domain.usage import UsageSource
from app.flows.answer import admit, answer
from app.flows.draft import CHECKPOINT_TOKENS, STATUS_CALLER_LEFT
from app.providers.scripted import Script
from tests.fakes.journal import MemoryJournal
from tests.flows.house import Caller, House, a_house, asked
from tests.makers import CARD, a_caller, a_policy, a_route, a_target, some_facts

LONG = Script(words=("word",) * 300)


def _settled(house: House) -> Receipt:
    (receipt,) = house.journal.disk.receipts
    assert house.told.receipts == [receipt]
    assert house.gateway.recent.find(receipt.request_id, key_id="abcdefgh") == receipt
    assert set(house.gateway.fleet.in_flight().values()) == {0}
    return receipt


async def _until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_ends_with_exactly_one_receipt(stream: bool) -> None:
    house, caller = a_house(), Caller()
    await answer(asked(house, stream=stream), caller, house.gateway)
    receipt = _settled(house)
    assert caller.ended
    assert receipt.outcome is Outcome.COMPLETE
    assert receipt.status == 200
    assert receipt.caller_label == "mine"
    assert receipt.attempts[0].usage == house.provider.deeds[0].billed
    assert receipt.attempts[0].usage_source is UsageSource.PROVIDER_FINAL


async def test_the_charge_is_told_before_a_whole_body_and_not_before_a_stream() -> None:
    for stream in (True, False):
        house, caller = a_house(), Caller()
        await answer(asked(house, stream=stream), caller, house.gateway)
        assert caller.opening is not None
        assert caller.opening.charge == (None if stream else _settled(house).charge)


async def test_the_end_of_a_stream_is_held_back_until_the_receipt_is_durable() -> None:
    house, caller = a_house(), Caller()
    house.journal.slow = True
    async with asyncio.TaskGroup() as group:
        story = group.create_task(answer(asked(house, stream=True), caller, house.gateway))
        await _until(lambda: house.journal.disk.receipts)
        await asyncio.sleep(0.05)
        assert b"".join(caller.sent).count(b"data:") >= 2
        assert b"[DONE]" not in b"".join(caller.sent)
        assert not story.done()
        house.journal.slow = False
    assert caller.sent[-1].endswith(b"data: [DONE]\n\n")


async def test_a_whole_answer_is_held_back_until_the_receipt_is_durable() -> None:
    house, caller = a_house(), Caller()
    house.journal.slow = True
    async with asyncio.TaskGroup() as group:
        group.create_task(answer(asked(house), caller, house.gateway))
        await _until(lambda: house.journal.disk.receipts)
        await asyncio.sleep(0.05)
        assert not caller.begun
        house.journal.slow = False
    assert caller.ended


async def test_the_intent_is_in_the_journal_before_the_target_is_asked() -> None:
    house = a_house({"home": [Script(first_s=30)]})
    async with asyncio.TaskGroup() as group:
        caller = Caller()
        story = group.create_task(answer(asked(house, stream=True), caller, house.gateway))
        await _until(lambda: house.provider.calls)
        (intent,) = house.journal.disk.intents.values()
        assert intent.outcome is Outcome.INTERRUPTED
        assert intent.attempts[-1].usage.output == CHECKPOINT_TOKENS
        assert intent.charge > 0
        story.cancel()


async def test_a_process_that_dies_mid_stream_has_never_booked_less_than_it_delivered() -> None:
    house = a_house({"home": [replace(LONG, fault=FaultKind.IDLE_TIMEOUT, fault_after=200)]})
    delivered = []

    class Dying(Caller):
        async def write(self, raw: bytes) -> None:
            delivered.append(raw.count(b"data:"))
            if sum(delivered) >= 150:
                dead = MemoryJournal(house.journal.disk)
                (receipt,) = dead.disk.receipts
                assert receipt.outcome is Outcome.INTERRUPTED
                assert receipt.attempts[-1].usage.output >= 150
                assert receipt.attempts[-1].usage.output <= 150 + 2 * CHECKPOINT_TOKENS
                raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await answer(asked(house, stream=True), Dying(), house.gateway)
    assert sum(delivered) >= 150


async def test_a_caller_who_leaves_mid_stream_pays_for_what_passed_and_the_target_is_told() -> None:
    house, caller = a_house({"home": [replace(LONG, between_s=0.005)]}), Caller(leaves_after=20)
    with pytest.raises(CallerLeft):
        await answer(asked(house, stream=True), caller, house.gateway)
    receipt = _settled(house)
    assert (receipt.outcome, receipt.status) == (Outcome.ABANDONED, STATUS_CALLER_LEFT)
    assert receipt.attempts[0].usage.output >= 19
    assert receipt.charge > 0
    assert house.provider.deeds[0].hung_up


async def test_a_caller_who_leaves_while_it_reads_slowly_pays_for_what_lay_unread() -> None:
    house = a_house({"home": [replace(LONG, between_s=0.001)]})

    class Slow(Caller):
        async def write(self, raw: bytes) -> None:
            await super().write(raw)
            await asyncio.sleep(30)

    caller = Slow()
    asyncio.get_running_loop().call_later(0.05, caller.leave)
    with pytest.raises(CallerLeft):
        await answer(asked(house, stream=True), caller, house.gateway)
    assert b"word" not in b"".join(caller.sent)  # it has seen the role alone
    assert house.provider.deeds[0].output_tokens == 1
    assert _settled(house).attempts[0].usage.output == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_caller_who_leaves_before_anything_came_has_a_receipt_that_is_not_free(stream: bool) -> None:
    house, caller = a_house({"home": [Script(first_s=25)]}), Caller()
    asyncio.get_running_loop().call_later(0.05, caller.leave)
    with pytest.raises(CallerLeft):
        await answer(asked(house, stream=stream), caller, house.gateway)
    receipt = _settled(house)
    assert receipt.outcome is Outcome.ABANDONED
    assert receipt.charge > 0
    assert house.provider.deeds[0].hung_up


async def test_the_next_candidate_answers_and_every_attempt_is_on_the_receipt() -> None:
    house = a_house({"first": [Script(fault=FaultKind.OVERLOADED)], "second": [Script()]})
    caller = Caller()
    await answer(asked(house, stream=True), caller, house.gateway)
    receipt = _settled(house)
    assert [(each.target, each.outcome) for each in receipt.attempts] == [
        ("first", Outcome.REFUSED),
        ("second", Outcome.COMPLETE),
    ]
    assert receipt.attempts[0].charge == 0
    assert caller.opening is not None
    assert (caller.opening.target, caller.opening.attempts) == ("second", 2)
    assert house.told.dispatches == ["first", "second"]


async def test_a_target_that_may_have_worked_is_paid_though_another_answered() -> None:
    house = a_house({"first": [Script(fault=FaultKind.CUT)], "second": [Script()]})
    await answer(asked(house, stream=True), Caller(), house.gateway)
    first = _settled(house).attempts[0]
    assert (first.outcome, first.usage_source) == (Outcome.BROKEN, UsageSource.GATEWAY_ESTIMATE)
    assert first.charge > 0


async def test_no_more_attempts_are_made_than_the_route_allows() -> None:
    names = ("a", "b", "c", "d")
    policy = a_policy(*(a_target(name) for name in names), route=a_route(*names, attempts=2))
    house = a_house({name: [Script(fault=FaultKind.SERVER_ERROR)] for name in names}, policy=policy)
    with pytest.raises(TargetFailure):
        await answer(asked(house), Caller(), house.gateway)
    assert len(_settled(house).attempts) == 2


async def test_what_no_other_target_could_mend_is_not_tried_again() -> None:
    house = a_house({"first": [Script(fault=FaultKind.BAD_REQUEST)], "second": [Script()]})
    with pytest.raises(TargetFailure) as caught:
        await answer(asked(house), Caller(), house.gateway)
    assert caught.value.kind is FaultKind.BAD_REQUEST
    receipt = _settled(house)
    assert (receipt.outcome, receipt.status, receipt.charge) == (Outcome.REFUSED, 400, 0)


async def test_a_stream_that_breaks_after_the_first_byte_is_booked_and_raised_and_never_ended() -> None:
    house = a_house({"first": [replace(LONG, fault=FaultKind.CUT, fault_after=10)], "second": [Script()]})
    caller = Caller()
    with pytest.raises(TargetFailure):
        await answer(asked(house, stream=True), caller, house.gateway)
    receipt = _settled(house)
    assert not caller.ended
    assert (receipt.outcome, receipt.status) == (Outcome.BROKEN, 200)
    assert [each.target for each in receipt.attempts] == ["first"]
    assert receipt.attempts[0].usage.output >= 10


async def test_the_total_time_bounds_an_answer_and_is_the_targets_failure() -> None:
    policy = a_policy(route=a_route("home", timeouts=Timeouts(total_s=0.05)))
    house = a_house({"home": [Script(first_s=30)]}, policy=policy)
    with pytest.raises(TargetFailure) as caught:
        await answer(asked(house), Caller(), house.gateway)
    assert caught.value.kind is FaultKind.TOTAL_TIMEOUT
    receipt = _settled(house)
    assert (receipt.outcome, receipt.status) == (Outcome.BROKEN, 504)
    assert receipt.attempts[0].fault == "total_timeout"
    assert receipt.charge > 0


async def test_a_refusal_has_a_receipt_without_an_attempt() -> None:
    policy = a_policy(a_target(rate_card=None))
    house = a_house({"home": [Script()]}, policy=policy)
    with pytest.raises(NoTarget):
        await answer(asked(house), Caller(), house.gateway)
    receipt = _settled(house)
    assert (receipt.outcome, receipt.attempts, receipt.status) == (Outcome.REFUSED, (), 503)


async def test_without_room_in_the_journal_nothing_is_dispatched() -> None:
    house = a_house()
    house.journal.full = True
    with pytest.raises(LedgerUnavailable):
        await answer(asked(house), Caller(), house.gateway)
    assert not house.provider.calls
    assert set(house.gateway.fleet.in_flight().values()) == {0}


async def test_a_handler_that_is_cancelled_from_outside_still_leaves_its_receipt() -> None:
    house = a_house({"home": [Script(first_s=30)]})
    story = asyncio.get_running_loop().create_task(answer(asked(house), Caller(), house.gateway))
    await _until(lambda: house.provider.calls)
    story.cancel()
    with pytest.raises(asyncio.CancelledError):
        await story
    assert _settled(house).outcome is Outcome.INTERRUPTED


async def test_a_snapshot_is_taken_once_so_that_a_swap_does_not_touch_a_running_request() -> None:
    house, caller = a_house({"home": [replace(LONG, between_s=0.002)]}), Caller()
    async with asyncio.TaskGroup() as group:
        group.create_task(answer(asked(house, stream=True), caller, house.gateway))
        await asyncio.sleep(0.05)
        house.gateway.policy.swap(replace(house.gateway.policy.current, digest="another"))
    assert _settled(house).policy_digest == "0123456789abcdef"


def test_who_may_ask_for_what_is_settled_before_anything_else() -> None:
    policy = a_policy(route=a_route("home", output_tokens_most=100))
    admit(some_facts(output_tokens_most=100), policy)
    with pytest.raises(ModelUnknown):
        admit(some_facts(model="nope"), policy)
    with pytest.raises(ModelNotAllowed):
        admit(some_facts(caller=a_caller(models=frozenset({"other"}))), policy)
    with pytest.raises(BadRequest) as caught:
        admit(some_facts(output_tokens_most=101), policy)
    assert caught.value.param == "max_tokens"


async def test_failures_in_a_row_take_a_target_out_of_the_plan() -> None:
    house = a_house({"home": [Script(fault=FaultKind.SERVER_ERROR)]})
    for number in range(3):  # each asks twice, but for the last, whose first failure is the fifth in a row
        with pytest.raises(TargetFailure):
            await answer(asked(house, request_id=f"r{number}"), Caller(), house.gateway)
    with pytest.raises(NoTarget):
        await answer(asked(house, request_id="r5"), Caller(), house.gateway)
    assert len(house.provider.calls) == 5
    assert house.gateway.fleet.view(at_s=house.gateway.clock.monotonic_s())["home"] != TargetSeen(rate_card=CARD)


async def test_a_failure_in_passing_is_mended_by_asking_the_only_target_again() -> None:
    house = a_house({"home": [Script(fault=FaultKind.SERVER_ERROR), Script()]})
    caller = Caller()
    await answer(asked(house), caller, house.gateway)
    failed, answered = _settled(house).attempts
    assert (failed.target, failed.charge, failed.fault) == ("home", 0, "server_error")
    assert answered.outcome is Outcome.COMPLETE
    assert caller.opening is not None
    assert caller.opening.attempts == 2


async def test_a_pause_that_the_only_target_asks_for_is_waited_for() -> None:
    house = a_house({"home": [Script(fault=FaultKind.RATE_LIMITED, retry_after_s=0.3), Script()]})
    clock = house.gateway.clock
    began_s = clock.monotonic_s()
    await answer(asked(house), Caller(), house.gateway)
    assert clock.monotonic_s() - began_s >= 0.3
    assert [attempt.fault for attempt in _settled(house).attempts] == ["rate_limited", None]


async def test_a_caller_who_leaves_during_such_a_pause_is_noticed_at_once() -> None:
    house = a_house({"home": [Script(fault=FaultKind.OVERLOADED, retry_after_s=9.0)]})
    caller = Caller()
    work = asyncio.create_task(answer(asked(house), caller, house.gateway))
    while not house.provider.calls:
        await asyncio.sleep(0)
    caller.leave()
    with pytest.raises(CallerLeft):
        await asyncio.wait_for(work, 5)
    receipt = _settled(house)
    assert (receipt.outcome, receipt.charge, len(receipt.attempts)) == (Outcome.ABANDONED, 0, 1)


async def test_without_a_retry_budget_the_first_failure_stands_though_another_could_serve() -> None:
    house = a_house({"first": [Script(fault=FaultKind.SERVER_ERROR)], "second": [Script()]})
    at_s = house.gateway.clock.monotonic_s()
    while house.gateway.retries.take(at_s=at_s):
        pass
    with pytest.raises(TargetFailure):
        await answer(asked(house), Caller(), house.gateway)
    assert [call.target.name for call in house.provider.calls] == ["first"]


async def test_a_prompt_too_long_for_one_is_answered_by_a_larger_one_and_passed_on_without() -> None:
    policy = a_policy(
        a_target("small", context_tokens=4_000),
        a_target("large", context_tokens=32_000),
        a_target("tiny", context_tokens=2_000),
    )
    overflow = Script(fault=FaultKind.CONTEXT_OVERFLOW)
    house = a_house({"small": [overflow], "tiny": [overflow], "large": [Script(), overflow]}, policy=policy)
    await answer(asked(house), Caller(), house.gateway)
    assert [attempt.target for attempt in _settled(house).attempts] == ["small", "large"]
    with pytest.raises(TargetFailure) as caught:
        await answer(asked(house, request_id="r2"), Caller(), house.gateway)
    assert caught.value.kind is FaultKind.CONTEXT_OVERFLOW
    assert [call.target.name for call in house.provider.calls] == ["small", "large", "small", "large"]


async def test_a_request_that_is_turned_away_for_what_it_asks_takes_no_tokens_of_its_minute() -> None:
    house = a_house()
    gate = house.gateway.limits
    gate.limits.follow(keys={"abcdefgh": ("abcdefgh", RateLimits(tokens_per_minute=10_000))}, teams={})
    (one,) = gate.limits.all().values()
    one.held = 10_000
    with pytest.raises(ModelUnknown):
        await answer(asked(house, model="nobody", prompt_tokens=9_000), Caller(), house.gateway)
    assert one.held == 10_000


def _breaks(house: House, target: str, *, instead: str = "") -> list[str]:
    """A connection there broke, and whoever asks finds this model; who was asked about."""
    about: list[str] = []

    async def make_sure(name: str) -> None:
        about.append(name)
        house.gateway.fleet.serves(name, instead=instead)
        house.gateway.fleet.is_sure(name, at_s=house.gateway.clock.monotonic_s())

    house.gateway = replace(house.gateway, make_sure=make_sure)
    fleet, at_s = house.gateway.fleet, house.gateway.clock.monotonic_s()
    failure = TargetFailure("cut", kind=FaultKind.CUT, target=target)
    fleet.entered(target, at_s=at_s)
    fleet.left(target, at_s=at_s, answered=False, failure=failure)
    return about


@pytest.mark.parametrize("stream", [True, False])
async def test_nothing_is_sent_where_a_connection_broke_before_it_is_known_that_the_same_model_is_there(
    stream: bool,
) -> None:
    house = a_house({"first": [Script()], "second": [Script()]})
    about, caller = _breaks(house, "first", instead="llama"), Caller()
    await answer(asked(house, stream=stream), caller, house.gateway)
    receipt = _settled(house)
    assert about == ["first"]
    assert [attempt.target for attempt in receipt.attempts] == ["second"]
    assert "it serves llama, not smollm2" in receipt.remarks[0]
    assert caller.opening is not None
    assert (caller.opening.target, caller.opening.attempts) == ("second", 1)


async def test_one_that_serves_the_same_as_before_is_asked_as_it_was_decided_and_asked_about_once() -> None:
    house = a_house({"first": [Script()], "second": [Script()]})
    about = _breaks(house, "first")
    for number in range(2):
        await answer(asked(house, request_id=f"r{number}"), Caller(), house.gateway)
    assert about == ["first"]
    assert [call.target.name for call in house.provider.calls] == ["first", "first"]


async def test_where_only_another_model_is_left_nobody_is_asked_and_nothing_is_charged() -> None:
    house = a_house()
    _breaks(house, "home", instead="llama")
    with pytest.raises(NoPlace) as caught:
        await answer(asked(house), Caller(), house.gateway)
    assert (caught.value.code, caught.value.executed) == ("no_target", False)
    assert "start that model there, or name this one in the policy" in str(caught.value)
    receipt = _settled(house)
    assert (receipt.outcome, receipt.attempts, receipt.status, receipt.charge) == (Outcome.REFUSED, (), 503, 0)
    assert not house.provider.calls
