"""Copies for shadows, on the gateway of fakes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from app.domain.budget import Budget, Every
from app.domain.errors import FaultKind, LedgerUnavailable, NoTarget, TargetFailure
from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.routing.policy import Rule, Shadow, Timeouts
from app.flows.answer import answer
from app.flows.shadow import send_copies
from app.live.shadows import Dropped
from app.providers.scripted import Script
from app.system import RandomIds
from tests.fakes.budget_book import MemoryBudgetBook
from tests.fakes.journal import MemoryJournal
from tests.flows.house import Caller, House, a_house, asked
from tests.makers import a_policy, a_route, a_target

ALL = 1_000_000
HELLO = {"home": [Script()], "shade": [Script(words=("Another",) * 7)]}


def _house(
    scripts: Mapping[str, Sequence[Script]] | None = None,
    *,
    most_per_day: int | None = None,
    total_s: float = 5.0,
    **shade: object,
) -> House:
    """One rule that uses `home`, all of whose requests are copied to `shade`."""
    cap = None if most_per_day is None else Nanodollars(most_per_day)
    shadow = Shadow(target="shade", share_ppm=ALL, most_per_day=cap)
    rule = Rule(name="the rule", when=None, use=("home",), shadow=shadow)
    route = a_route(rules=(rule,), timeouts=Timeouts(total_s=total_s))
    policy = a_policy(a_target("home"), a_target("shade", **shade), route=route)
    return a_house(scripts or HELLO, policy=policy)


@contextlib.asynccontextmanager
async def _sending(house: House) -> AsyncIterator[list[BaseException]]:
    bugs: list[BaseException] = []
    async with asyncio.TaskGroup() as group:
        work = send_copies(house.gateway, ids=RandomIds(), report_bug=lambda request_id, bug: bugs.append(bug))
        sending = group.create_task(work)
        yield bugs
        sending.cancel()


async def _until(happened: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not happened():
            await asyncio.sleep(0.005)


def _copies(house: House) -> list[Receipt]:
    return [receipt for receipt in house.journal.disk.receipts if receipt.shadow_of is not None]


def _dropped(house: House, reason: Dropped) -> int:
    return house.gateway.shadows.dropped()[reason]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_copy_has_a_receipt_of_its_own_that_says_what_it_is_a_copy_of(stream: bool) -> None:
    house, caller = _house(), Caller()
    async with _sending(house):
        request = asked(house, stream=stream)
        await answer(request, caller, house.gateway)
        await _until(lambda: _copies(house))
    answered, copy = house.journal.disk.receipts
    assert answered.shadow_of is None
    assert copy.shadow_of == answered.request_id != copy.request_id
    assert copy.facts.request_id == copy.request_id
    assert (copy.outcome, copy.status, copy.policy_digest) == (Outcome.COMPLETE, 200, answered.policy_digest)
    assert [attempt.target for attempt in copy.attempts] == ["shade"]
    assert copy.attempts[0].usage.output == 7
    assert (copy.decision.rule, copy.facts.caller) == ("the rule", answered.facts.caller)
    first, second = house.provider.calls
    assert (first.fields, first.stream) == (second.fields, second.stream)
    assert set(house.gateway.fleet.in_flight().values()) == {0}


async def test_the_caller_sees_nothing_of_the_copy() -> None:
    house, caller = _house(), Caller()
    async with _sending(house):
        await answer(asked(house, stream=True), caller, house.gateway)
        assert caller.ended
        said = b"".join(caller.sent)
        await _until(lambda: _copies(house))
    assert b"".join(caller.sent) == said
    assert b"Another" not in said
    (copy,) = _copies(house)
    assert house.gateway.recent.find(copy.request_id, key_id="abcdefgh") is None


async def test_no_caller_waits_for_a_shadow() -> None:
    house = _house({"home": [Script()], "shade": [Script(first_s=30)]})
    async with _sending(house):
        caller = Caller()
        await answer(asked(house), caller, house.gateway)
        assert caller.ended
        await _until(lambda: len(house.provider.calls) == 2)
        assert not _copies(house)


async def test_a_shadow_that_turns_out_to_serve_another_model_gets_nothing_and_no_bug_is_reported() -> None:
    house = _house()

    async def make_sure(name: str) -> None:
        house.gateway.fleet.serves(name, instead="llama")
        house.gateway.fleet.is_sure(name, at_s=house.gateway.clock.monotonic_s())

    house.gateway = replace(house.gateway, make_sure=make_sure)
    fleet, at_s = house.gateway.fleet, house.gateway.clock.monotonic_s()
    fleet.entered("shade", at_s=at_s)
    fleet.left("shade", at_s=at_s, answered=False, failure=TargetFailure("cut", kind=FaultKind.CUT, target="shade"))
    async with _sending(house) as bugs:
        await answer(asked(house), Caller(), house.gateway)
        await _until(lambda: _dropped(house, Dropped.UNFIT))
    assert not bugs
    assert not _copies(house)
    assert [call.target.name for call in house.provider.calls] == ["home"]


@pytest.mark.parametrize("fault", [FaultKind.BAD_REQUEST, FaultKind.SERVER_ERROR])
async def test_what_was_not_answered_is_not_copied(fault: FaultKind) -> None:
    house = _house({"home": [Script(fault=fault)], "shade": [Script()]})
    async with _sending(house):
        with pytest.raises(TargetFailure):
            await answer(asked(house), Caller(), house.gateway)
        await asyncio.sleep(0.02)
    assert {call.target.name for call in house.provider.calls} == {"home"}


async def test_a_request_whose_caller_left_is_not_copied() -> None:
    house = _house({"home": [Script(words=("word",) * 50, between_s=0.005)], "shade": [Script()]})
    async with _sending(house):
        with pytest.raises(Exception, match="closed the connection"):
            await answer(asked(house, stream=True), Caller(leaves_after=2), house.gateway)
        await asyncio.sleep(0.02)
    assert {call.target.name for call in house.provider.calls} == {"home"}


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        (Script(fault=FaultKind.SERVER_ERROR), Outcome.BROKEN),
        (Script(fault=FaultKind.BAD_REQUEST), Outcome.REFUSED),
        (Script(words=("word",) * 9, fault=FaultKind.CUT, fault_after=3), Outcome.BROKEN),
        (Script(first_s=60), Outcome.BROKEN),
    ],
    ids=["refuses", "the request's own fault", "breaks", "takes too long"],
)
async def test_a_shadow_that_fails_is_booked_and_nobody_is_told(script: Script, outcome: Outcome) -> None:
    house, caller = _house({"home": [Script()], "shade": [script]}, total_s=0.3), Caller()
    async with _sending(house) as bugs:
        await answer(asked(house, stream=True), caller, house.gateway)
        await _until(lambda: _copies(house))
    assert caller.ended
    assert _copies(house)[0].outcome is outcome
    assert not bugs


async def test_a_process_that_stops_books_the_copy_under_way_as_interrupted() -> None:
    house = _house({"home": [Script()], "shade": [Script(words=("word",) * 5000, between_s=0.01)]})
    async with _sending(house):
        await answer(asked(house, stream=True), Caller(), house.gateway)
        await _until(lambda: len(house.provider.calls) == 2)
    (copy,) = _copies(house)
    assert (copy.outcome, copy.attempts[0].outcome) == (Outcome.INTERRUPTED, Outcome.INTERRUPTED)
    assert house.provider.deeds[1].hung_up
    assert house.journal.disk.intents == {}


async def test_a_process_that_dies_has_the_copy_in_its_journal() -> None:
    house = _house({"home": [Script()], "shade": [Script(first_s=60)]})
    async with _sending(house):
        await answer(asked(house, stream=True), Caller(), house.gateway)
        await _until(lambda: house.journal.disk.intents)
        (intent,) = house.journal.disk.intents.values()
    assert (intent.outcome, intent.shadow_of) == (Outcome.INTERRUPTED, asked(house).facts.request_id)
    assert intent.charge > 0


async def test_copies_beyond_the_bound_are_dropped_and_counted() -> None:
    house = _house({"home": [Script()], "shade": [Script(first_s=60)]})
    async with _sending(house):
        for number in range(20):
            await answer(asked(house, request_id=f"r{number}"), Caller(), house.gateway)
        await _until(lambda: len(house.journal.disk.intents) == 16)
        assert _dropped(house, Dropped.CROWDED) == 4


async def test_a_rule_that_spent_its_cap_sends_no_more_copies() -> None:
    house = _house(most_per_day=1)
    async with _sending(house):
        await answer(asked(house, request_id="r1"), Caller(), house.gateway)
        await _until(lambda: _copies(house))
        await answer(asked(house, request_id="r2"), Caller(), house.gateway)
        assert _dropped(house, Dropped.CAPPED) == 1
    assert len(_copies(house)) == 1


async def test_a_shadow_that_has_no_room_when_the_turn_comes_is_left_alone() -> None:
    house = _house({"home": [Script()], "shade": [Script(first_s=60)]}, in_flight_most=1)
    async with _sending(house):
        for number in range(2):
            await answer(asked(house, request_id=f"r{number}"), Caller(), house.gateway)
        await _until(lambda: _dropped(house, Dropped.UNFIT) == 1)
        assert house.gateway.fleet.in_flight()["shade"] == 1


async def test_a_journal_without_room_takes_no_copy() -> None:
    house = _house()
    async with _sending(house) as bugs:
        await answer(asked(house), Caller(), house.gateway)
        house.journal.full = True
        await _until(lambda: _dropped(house, Dropped.NO_ROOM) == 1)
    assert not bugs
    assert [call.target.name for call in house.provider.calls] == ["home"]


class _WornOut(MemoryJournal):
    """Takes intents and can make nothing durable."""

    async def settle(self, receipt: Receipt) -> None:
        raise LedgerUnavailable("the disk is worn out: replace it")


async def test_a_copy_that_cannot_be_made_durable_keeps_its_intent_and_counts_for_the_cap() -> None:
    house, worn_out = _house(), _WornOut()
    await answer(asked(house), Caller(), house.gateway)
    house = replace(house, gateway=replace(house.gateway, journal=worn_out))
    async with _sending(house) as bugs:
        await _until(lambda: house.gateway.shadows.spent("chat/the rule", at_s=0))
    (intent,) = worn_out.disk.intents.values()
    assert intent.shadow_of is not None
    assert not bugs


async def test_a_bug_ends_its_copy_and_not_the_next() -> None:
    house = _house({"home": [Script()]})
    async with _sending(house) as bugs:
        await answer(asked(house, request_id="r1"), Caller(), house.gateway)
        await _until(lambda: bugs)
        house.provider.play("shade", Script())
        await answer(asked(house, request_id="r2"), Caller(), house.gateway)
        await _until(lambda: _copies(house))
    assert isinstance(bugs[0], KeyError)


async def test_a_refusal_has_no_copy() -> None:
    house = _house({"home": [Script(fault=FaultKind.REFUSED_CONNECTION)], "shade": [Script()]})
    async with _sending(house):
        for number in range(6):
            with pytest.raises((TargetFailure, NoTarget)):
                await answer(asked(house, request_id=f"r{number}"), Caller(), house.gateway)
    assert not _copies(house)


@pytest.mark.parametrize(("amount", "copies"), [(10**9, 1), (1_150_000, 0)])
async def test_a_copy_holds_of_its_callers_budgets_and_is_dropped_where_they_have_no_room(
    amount: int, copies: int
) -> None:
    house = _house()
    budget = Budget(name="team", amount=Nanodollars(amount), every=Every.DAY)
    house.gateway.policy.swap(replace(house.gateway.policy.current, budgets={"team": budget}))
    treasury = asyncio.create_task(house.gateway.treasury.keep(MemoryBudgetBook()))
    async with _sending(house):
        await answer(asked(house, output_tokens_most=300), Caller(), house.gateway)
        await _until(lambda: len(_copies(house)) + _dropped(house, Dropped.NO_ROOM) == 1)
    treasury.cancel()
    assert [bool(copy.holds) for copy in _copies(house)] == [True] * copies
