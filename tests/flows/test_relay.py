"""`app.flows.relay`: an answer in one piece that turns out to be none is its attempt's failure; the next may give it.

Streams are `test_stream.py`'s."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest

from app.domain.errors import CallerLeft, FaultKind, TargetFailure
from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.routing.policy import Policy, Timeouts
from app.domain.usage import UsageSource
from app.flows.answer import answer
from app.providers.scripted import Script
from tests.fakes.budget_book import MemoryBudgetBook
from tests.fakes.journal import MemoryJournal
from tests.flows.house import Caller, House, a_house, asked
from tests.flows.test_hold import a_budget, kept
from tests.makers import a_policy, a_route, a_target

WHOLE = Script(words=("It", " is", " late", " here."))
#: Every way in which a body turns out to be no answer.
BREAKS = (FaultKind.CUT, FaultKind.IDLE_TIMEOUT, FaultKind.INVALID_ANSWER)


def broken(fault: FaultKind = FaultKind.CUT) -> Script:
    return replace(WHOLE, fault=fault, fault_after=2)


def receipt_of(house: House) -> Receipt:
    (receipt,) = house.journal.disk.receipts
    assert set(house.gateway.fleet.in_flight().values()) == {0}
    assert [deed.attempt_id for deed in house.provider.deeds] == [each.attempt_id for each in receipt.attempts]
    return receipt


def outcomes(receipt: Receipt) -> list[tuple[str, Outcome, str | None]]:
    return [(each.target, each.outcome, each.fault) for each in receipt.attempts]


async def failed(house: House, caller: Caller) -> TargetFailure:
    with pytest.raises(TargetFailure) as caught:
        await answer(asked(house), caller, house.gateway)
    assert not caller.sent
    return caught.value


@pytest.mark.parametrize("fault", BREAKS)
async def test_a_body_that_is_no_answer_is_given_by_the_next_and_both_attempts_are_booked(fault: FaultKind) -> None:
    house, caller = a_house({"first": [broken(fault)], "second": [WHOLE]}), Caller()
    await answer(asked(house), caller, house.gateway)
    assert msgspec.json.decode(b"".join(caller.sent))["choices"][0]["message"]["content"] == "It is late here."
    receipt = receipt_of(house)
    assert outcomes(receipt) == [("first", Outcome.BROKEN, fault), ("second", Outcome.COMPLETE, None)]
    assert (receipt.outcome, receipt.status) == (Outcome.COMPLETE, 200)
    broke, answered = receipt.attempts
    assert (broke.usage_source, broke.charge > 0) == (UsageSource.GATEWAY_ESTIMATE, True)
    assert answered.usage == house.provider.deeds[1].billed
    assert caller.opening is not None
    assert (caller.opening.target, caller.opening.attempts) == ("second", 2)
    assert caller.opening.charge == receipt.charge == broke.charge + answered.charge


async def test_with_nobody_left_the_last_break_stands_and_nothing_of_either_was_sent() -> None:
    house = a_house({"first": [broken()], "second": [broken(FaultKind.INVALID_ANSWER)]})
    failure = await failed(house, Caller())
    assert (failure.kind, failure.target, failure.executed) == (FaultKind.INVALID_ANSWER, "second", True)
    receipt = receipt_of(house)
    assert (receipt.outcome, receipt.status) == (Outcome.BROKEN, 502)
    assert all(attempt.charge > 0 for attempt in receipt.attempts)


async def test_a_target_whose_body_broke_is_not_asked_again() -> None:
    house = a_house({"home": [broken(), WHOLE]})
    assert (await failed(house, Caller())).kind is FaultKind.CUT
    assert len(house.provider.calls) == 1


async def test_no_more_are_asked_than_the_route_has_attempts() -> None:
    names = ("a", "b", "c")
    policy = a_policy(*(a_target(name) for name in names), route=a_route(*names, attempts=2))
    house = a_house({name: [broken()] for name in names}, policy=policy)
    assert (await failed(house, Caller())).target == "b"
    assert [target for target, _, _ in outcomes(receipt_of(house))] == ["a", "b"]


async def test_without_a_retry_budget_the_break_stands() -> None:
    house = a_house({"first": [broken()], "second": [WHOLE]})
    at_s = house.gateway.clock.monotonic_s()
    while house.gateway.retries.take(at_s=at_s):
        pass
    assert (await failed(house, Caller())).target == "first"


async def test_the_total_time_is_of_the_request_and_not_of_an_attempt() -> None:
    names = ("first", "second")
    route = a_route(*names, timeouts=Timeouts(total_s=1.5))
    policy = a_policy(*(a_target(name) for name in names), route=route)
    house = a_house({"first": [broken()], "second": [Script(first_s=30)]}, policy=policy)
    assert (await failed(house, Caller())).kind is FaultKind.TOTAL_TIMEOUT
    receipt = receipt_of(house)
    assert outcomes(receipt) == [("first", Outcome.BROKEN, "cut"), ("second", Outcome.BROKEN, "total_timeout")]
    assert receipt.status == 504
    assert all(attempt.charge > 0 for attempt in receipt.attempts)


async def test_a_caller_who_leaves_while_another_is_asked_pays_both_and_both_are_told() -> None:
    house, caller = a_house({"first": [broken()], "second": [Script(first_s=25)]}), Caller()
    work = asyncio.create_task(answer(asked(house), caller, house.gateway))
    while len(house.provider.calls) < 2:
        await asyncio.sleep(0)
    caller.leave()
    with pytest.raises(CallerLeft):
        await asyncio.wait_for(work, 5)
    assert outcomes(receipt_of(house)) == [("first", Outcome.BROKEN, "cut"), ("second", Outcome.ABANDONED, None)]
    assert all(attempt.charge > 0 for attempt in receipt_of(house).attempts)
    assert all(deed.hung_up for deed in house.provider.deeds)


async def test_a_process_that_dies_in_the_second_attempt_has_booked_both() -> None:
    house = a_house({"first": [broken()], "second": [Script(first_s=25)]})
    work = asyncio.create_task(answer(asked(house), Caller(), house.gateway))
    while len(house.provider.calls) < 2:
        await asyncio.sleep(0)
    (receipt,) = MemoryJournal(house.journal.disk).disk.receipts
    assert outcomes(receipt) == [("first", Outcome.BROKEN, "cut"), ("second", Outcome.INTERRUPTED, None)]
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _under_budget(amount: int) -> Policy:
    names = ("first", "second")
    targets = [a_target(name, context_tokens=8_192) for name in names]
    policy = a_policy(*targets, route=a_route(*names, output_tokens_most=500))
    return replace(policy, budgets={"team": a_budget(amount)})


async def _held_alone() -> Nanodollars:
    """What one attempt holds."""
    alone = a_house({"first": [WHOLE], "second": [WHOLE]}, policy=_under_budget(1_000_000_000))
    async with kept(alone, MemoryBudgetBook()):
        await answer(asked(alone), Caller(), alone.gateway)
    (hold,) = receipt_of(alone).holds
    return hold.amount


async def test_the_second_attempt_is_held_for_with_what_the_first_cost_before_it_is_dispatched() -> None:
    house = a_house({"first": [broken()], "second": [WHOLE]}, policy=_under_budget(1_000_000_000))
    async with kept(house, MemoryBudgetBook()):
        await answer(asked(house), Caller(), house.gateway)
    receipt = receipt_of(house)
    (hold,) = receipt.holds
    assert receipt.charge <= hold.amount
    assert hold.amount == await _held_alone() + receipt.attempts[0].charge


async def test_a_budget_without_room_for_the_second_attempt_lets_the_break_stand() -> None:
    house = a_house({"first": [broken()], "second": [WHOLE]}, policy=_under_budget(await _held_alone()))
    async with kept(house, MemoryBudgetBook()):
        assert (await failed(house, Caller())).kind is FaultKind.CUT
    receipt = receipt_of(house)
    assert outcomes(receipt) == [("first", Outcome.BROKEN, "cut")]
    assert receipt.charge <= receipt.holds[0].amount
