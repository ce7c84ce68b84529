"""`app.flows.hedge` and what `app.flows.dispatch` makes of it: a slow first attempt gets a second one beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.errors import CallerLeft, FaultKind, LedgerUnavailable, TargetFailure
from app.domain.ledger.receipt import HEDGE_LOST, HEDGED, HedgeWon, Receipt
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.routing.policy import Policy, Timeouts
from app.domain.target import Circuit
from app.flows.answer import answer
from app.flows.draft import CHECKPOINT_TOKENS
from app.flows.hedge import HedgeLost, race
from app.ports import UpstreamAnswer
from app.providers.scripted import Script
from tests.fakes.budget_book import MemoryBudgetBook
from tests.fakes.journal import MemoryJournal
from tests.flows.house import Caller, House, a_house, asked
from tests.flows.test_hold import a_budget, kept
from tests.loop_clock import LoopClock
from tests.makers import a_policy, a_route, a_target

AFTER_S = 0.02
#: Never within a test: whoever plays it is broken off.
NEVER = Script(first_s=60)
#: In a script: until both have been asked, however long that takes, or what a test has put there instead.
LATE_S = 0.1
#: After the hedge has begun, before anything times out.
LATE = Script(words=("I", " am", " late."), first_s=LATE_S)
#: Whoever plays it is alone.
SLOW = replace(LATE, first_s=0.11)
NOW = Script(words=("At", " once."))
#: What pauses of these lengths wait for, instead of a time.
Pauses = Mapping[float, Callable[[House], Awaitable[None]]]


def hedged_policy(*names: str, **route: object) -> Policy:
    values: dict[str, object] = {"hedge_after_s": AFTER_S, **route}
    return a_policy(*(a_target(name) for name in names), route=a_route(*names, **values))


def a_hedging_house(*, policy: Policy | None = None, pauses: Pauses | None = None, **scripts: Script) -> House:
    waits: Pauses = {LATE_S: both_asked, **(pauses or {})}

    async def sleep(seconds: float) -> None:
        await (waits[seconds](house) if seconds in waits else asyncio.sleep(seconds))

    policy = policy or hedged_policy(*scripts)
    house = a_house({name: [each] for name, each in scripts.items()}, policy=policy, sleep=sleep)
    return house


def receipt_of(house: House) -> Receipt:
    (receipt,) = house.journal.disk.receipts
    assert set(house.gateway.fleet.in_flight().values()) == {0}
    assert [attempt.number for attempt in receipt.attempts] == list(range(1, len(receipt.attempts) + 1))
    assert [deed.attempt_id for deed in house.provider.deeds] == [each.attempt_id for each in receipt.attempts]
    assert receipt.charge == sum(attempt.charge for attempt in receipt.attempts)
    return receipt


def outcomes(receipt: Receipt) -> list[tuple[str, Outcome, str | None, bool]]:
    return [(each.target, each.outcome, each.fault, HEDGE_LOST in each.flags) for each in receipt.attempts]


def circuits(house: House) -> list[Circuit]:
    return [seen.circuit for seen in house.gateway.fleet.view(at_s=house.gateway.clock.monotonic_s()).values()]


async def both_asked(house: House) -> None:
    async with asyncio.timeout(20):
        while len(house.provider.calls) < 2:
            await asyncio.sleep(0.001)


async def one_has_failed(house: House) -> None:
    """The spool has it, so that the race has too."""
    await both_asked(house)
    async with asyncio.timeout(20):
        while next(iter(house.journal.disk.intents.values())).attempts[0].fault is None:
            await asyncio.sleep(0.001)


# ── who wins ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_second_target_answers_for_a_slow_first_which_is_broken_off_and_booked(stream: bool) -> None:
    house, caller = a_hedging_house(first=NEVER, second=NOW), Caller()
    await answer(asked(house, stream=stream), caller, house.gateway)
    assert b"once." in b"".join(caller.sent)
    assert caller.ended
    receipt = receipt_of(house)
    assert outcomes(receipt) == [
        ("first", Outcome.ABANDONED, None, True),
        ("second", Outcome.COMPLETE, None, False),
    ]
    assert (receipt.outcome, receipt.status) == (Outcome.COMPLETE, 200)
    lost, won = receipt.attempts
    assert lost.usage.prompt == receipt.facts.prompt_tokens
    assert lost.charge > 0
    assert won.usage == house.provider.deeds[1].billed
    assert [deed.hung_up for deed in house.provider.deeds] == [True, False]
    assert caller.opening is not None
    assert (caller.opening.target, caller.opening.attempts) == ("second", 2)
    assert receipt.final == won
    assert receipt.hedge_won is HedgeWon.HEDGE
    assert receipt.remarks == ("After 20 ms without an answer from first, second was asked too.",)
    in_all_but_the_wait_s = receipt.duration_s - AFTER_S + 0.001
    assert receipt.overhead_s <= in_all_but_the_wait_s, "the wait for the first is no overhead of ours"


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_first_that_opens_before_the_second_answers_and_is_the_final_one(
    stream: bool,
) -> None:
    house, caller = a_hedging_house(first=LATE, second=NEVER), Caller()
    await answer(asked(house, stream=stream), caller, house.gateway)
    assert b"late." in b"".join(caller.sent)
    receipt = receipt_of(house)
    assert outcomes(receipt) == [
        ("first", Outcome.COMPLETE, None, False),
        ("second", Outcome.ABANDONED, None, True),
    ]
    assert receipt.final == receipt.attempts[0]
    assert receipt.hedge_won is HedgeWon.FIRST
    assert house.provider.deeds[1].hung_up
    assert caller.opening is not None
    assert (caller.opening.target, caller.opening.attempts) == ("first", 2)


async def test_a_hedge_that_is_lost_says_nothing_of_its_targets_health() -> None:
    house = a_hedging_house(first=NEVER, second=NOW)
    for _ in range(8):
        await answer(asked(house), Caller(), house.gateway)
    assert circuits(house) == [Circuit.CLOSED, Circuit.CLOSED]
    assert {outcomes(receipt)[0] for receipt in house.journal.disk.receipts} == {
        ("first", Outcome.ABANDONED, None, True)
    }


async def test_a_first_that_opens_in_time_is_alone_as_is_one_of_a_route_that_is_not_hedged() -> None:
    house = a_hedging_house(first=NOW, second=NOW, policy=hedged_policy("first", "second", hedge_after_s=30.0))
    await answer(asked(house), Caller(), house.gateway)
    slow = a_hedging_house(first=SLOW, second=NOW, policy=hedged_policy("first", "second", hedge_after_s=None))
    await answer(asked(slow), Caller(), slow.gateway)
    for each in (house, slow):
        assert outcomes(receipt_of(each)) == [("first", Outcome.COMPLETE, None, False)]
        assert receipt_of(each).hedge_won is None


# ── when there is none ───────────────────────────────────────────────────────────────────────────────────────────────


def _nothing(house: House) -> None:
    """As it is made."""


def _rests(house: House) -> None:
    at_s, fleet = house.gateway.clock.monotonic_s(), house.gateway.fleet
    for _ in range(5):
        fleet.entered("second", at_s=at_s)
        gone = TargetFailure("gone", kind=FaultKind.SERVER_ERROR, target="second")
        fleet.left("second", at_s=at_s, answered=False, failure=gone)


def _in_doubt(house: House) -> None:
    at_s, fleet = house.gateway.clock.monotonic_s(), house.gateway.fleet
    fleet.entered("second", at_s=at_s)
    cut = TargetFailure("cut", kind=FaultKind.CUT, target="second")
    fleet.left("second", at_s=at_s, answered=False, failure=cut)
    assert fleet.is_in_doubt("second")


def _full(house: House) -> None:
    for _ in range(4):
        house.gateway.fleet.entered("second", at_s=house.gateway.clock.monotonic_s())


def _retries_are_spent(house: House) -> None:
    while house.gateway.retries.take(at_s=house.gateway.clock.monotonic_s()):
        pass


#: Why there is no hedge → the route, what is done to the house.
NONE: dict[str, tuple[dict[str, object], Callable[[House], None]]] = {
    "one attempt only": ({"attempts": 1}, _nothing),
    "the other rests": ({}, _rests),
    "the other is in doubt": ({}, _in_doubt),
    "the other is full": ({}, _full),
    "the retry budget is spent": ({}, _retries_are_spent),
}


@pytest.mark.parametrize("why", NONE)
async def test_what_is_not_given_at_once_is_not_waited_for_and_the_first_goes_on_alone(why: str) -> None:
    route, prepare = NONE[why]
    policy = hedged_policy("first", "second", **route)
    policy = replace(policy, targets={**policy.targets, "second": a_target("second", in_flight_most=4)})
    house = a_hedging_house(first=SLOW, second=NOW, policy=policy)
    prepare(house)
    await answer(asked(house), Caller(), house.gateway)
    (receipt,) = house.journal.disk.receipts
    assert outcomes(receipt) == [("first", Outcome.COMPLETE, None, False)]
    assert not receipt.flags


async def test_the_next_candidate_that_is_free_is_asked_and_not_only_the_very_next() -> None:
    house = a_hedging_house(first=NEVER, second=NEVER, third=NOW)
    _in_doubt(house)
    await answer(asked(house), Caller(), house.gateway)
    assert [target for target, *_ in outcomes(receipt_of(house))] == ["first", "third"]


async def test_a_single_target_is_not_asked_twice() -> None:
    house = a_hedging_house(first=SLOW)
    await answer(asked(house), Caller(), house.gateway)
    assert outcomes(receipt_of(house)) == [("first", Outcome.COMPLETE, None, False)]


async def test_a_spool_that_takes_nothing_more_leaves_the_first_alone_and_gives_the_retry_back() -> None:
    house, caller = a_hedging_house(first=SLOW, second=NOW), Caller()
    at_s = house.gateway.clock.monotonic_s()
    work = asyncio.create_task(answer(asked(house), caller, house.gateway))
    while not house.provider.calls:
        await asyncio.sleep(0)
    house.journal.full = True
    await work
    receipt = receipt_of(house)
    assert outcomes(receipt) == [("first", Outcome.COMPLETE, None, False)]
    assert not receipt.flags
    assert caller.opening is not None
    assert caller.opening.attempts == 1
    assert sum(house.gateway.retries.take(at_s=at_s) for _ in range(200)) == 100, "the floor is whole"


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_first_that_fails_while_the_second_is_pending_counts_and_the_second_goes_on() -> None:
    # The second began later, so that its first token may still be in time when the first's is not.
    policy = hedged_policy("first", "second", timeouts=Timeouts(first_token_s=0.3))
    pauses: Pauses = {0.3: both_asked, LATE_S: one_has_failed}
    house = a_hedging_house(first=NEVER, second=LATE, policy=policy, pauses=pauses)
    await answer(asked(house, stream=True), Caller(), house.gateway)
    receipt = receipt_of(house)
    assert outcomes(receipt) == [
        ("first", Outcome.BROKEN, "first_token_timeout", False),
        ("second", Outcome.COMPLETE, None, False),
    ]
    assert receipt.hedge_won is HedgeWon.HEDGE
    assert receipt.final == receipt.attempts[1]


async def test_a_hedge_that_fails_leaves_the_first_alone_with_an_intent_of_its_own() -> None:
    refusing, looked = Script(fault=FaultKind.SERVER_ERROR), asyncio.Event()

    async def until_we_have_looked(house: House) -> None:
        await looked.wait()

    house = a_hedging_house(first=LATE, second=refusing, pauses={LATE_S: until_we_have_looked})
    work = asyncio.create_task(answer(asked(house, stream=True), Caller(), house.gateway))
    await one_has_failed(house)
    (intent,) = house.journal.disk.intents.values()
    assert [each.target for each in intent.attempts] == ["second", "first"], "checkpoints are of the last"
    assert intent.attempts[0].fault == "server_error"
    looked.set()
    await work
    receipt = receipt_of(house)
    assert outcomes(receipt) == [
        ("first", Outcome.COMPLETE, None, False),
        ("second", Outcome.REFUSED, "server_error", True),
    ]
    assert receipt.final == receipt.attempts[0]
    assert receipt.hedge_won is HedgeWon.FIRST


@pytest.mark.parametrize("attempts", [2, 3])
async def test_when_both_fail_the_walk_goes_on_with_both_failures(attempts: int) -> None:
    names = ("first", "second", "third")
    policy = hedged_policy(*names, attempts=attempts, timeouts=Timeouts(first_token_s=0.2))
    scripts = {"first": NEVER, "second": Script(fault=FaultKind.OVERLOADED), "third": NOW}
    house, caller = a_hedging_house(policy=policy, pauses={0.2: one_has_failed}, **scripts), Caller()
    if attempts == 3:
        await answer(asked(house, stream=True), caller, house.gateway)
    else:
        with pytest.raises(TargetFailure) as caught:
            await answer(asked(house, stream=True), caller, house.gateway)
        assert caught.value.kind is FaultKind.FIRST_TOKEN_TIMEOUT
    receipt = receipt_of(house)
    assert (
        outcomes(receipt)
        == [
            ("first", Outcome.BROKEN, "first_token_timeout", False),
            ("second", Outcome.REFUSED, "overloaded", True),
            ("third", Outcome.COMPLETE, None, False),
        ][:attempts]
    )
    assert receipt.hedge_won is HedgeWon.NEITHER
    assert receipt.final == receipt.attempts[0 if attempts == 2 else 2]


@pytest.mark.parametrize("attempts", [2, 3])
async def test_a_lost_hedge_counts_for_the_attempts_when_the_winner_breaks(attempts: int) -> None:
    names = ("first", "second", "third")
    broken = replace(NOW, fault=FaultKind.CUT, fault_after=1)
    policy = hedged_policy(*names, attempts=attempts)
    house, caller = a_hedging_house(policy=policy, first=NEVER, second=broken, third=NOW), Caller()
    house.provider.play("first", NOW)
    if attempts == 3:
        await answer(asked(house), caller, house.gateway)
    else:
        with pytest.raises(TargetFailure):
            await answer(asked(house), caller, house.gateway)
    receipt = receipt_of(house)
    assert (
        outcomes(receipt)
        == [
            ("first", Outcome.ABANDONED, None, True),
            ("second", Outcome.BROKEN, "cut", False),
            ("first", Outcome.COMPLETE, None, False),
        ][:attempts]
    )


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_caller_who_leaves_in_the_race_pays_both_and_both_are_told(stream: bool) -> None:
    house, caller = a_hedging_house(first=NEVER, second=NEVER), Caller()
    work = asyncio.create_task(answer(asked(house, stream=stream), caller, house.gateway))
    await both_asked(house)
    caller.leave()
    with pytest.raises(CallerLeft):
        await asyncio.wait_for(work, 5)
    receipt = receipt_of(house)
    assert outcomes(receipt) == [
        ("first", Outcome.ABANDONED, None, False),
        ("second", Outcome.ABANDONED, None, False),
    ]
    assert all(attempt.charge > 0 for attempt in receipt.attempts)
    assert all(deed.hung_up for deed in house.provider.deeds)
    assert receipt.hedge_won is HedgeWon.NEITHER
    assert len(asyncio.all_tasks()) == 1


async def test_the_total_time_ends_both() -> None:
    policy, clock = hedged_policy("first", "second", timeouts=Timeouts(total_s=30)), LoopClock()
    house = a_hedging_house(policy=policy, first=NEVER, second=NEVER)
    work = asyncio.create_task(answer(asked(house), Caller(), house.gateway))
    await both_asked(house)
    await clock.pass_s(30)
    with pytest.raises(TargetFailure) as caught:
        await work
    assert caught.value.kind is FaultKind.TOTAL_TIMEOUT
    receipt = receipt_of(house)
    assert outcomes(receipt) == [
        ("first", Outcome.BROKEN, "total_timeout", False),
        ("second", Outcome.BROKEN, "total_timeout", False),
    ]
    assert all(deed.hung_up for deed in house.provider.deeds)


# ── what the spool has ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_process_that_dies_in_the_race_has_booked_both() -> None:
    house = a_hedging_house(first=NEVER, second=NEVER)
    work = asyncio.create_task(answer(asked(house, stream=True), Caller(), house.gateway))
    await both_asked(house)
    (receipt,) = MemoryJournal(house.journal.disk).disk.receipts
    assert outcomes(receipt) == [
        ("first", Outcome.INTERRUPTED, None, False),
        ("second", Outcome.INTERRUPTED, None, False),
    ]
    assert [attempt.usage.output for attempt in receipt.attempts] == [CHECKPOINT_TOKENS, CHECKPOINT_TOKENS]
    assert receipt.flag_words == {HEDGED, "usage_estimated"}
    assert receipt.hedge_won is HedgeWon.NEITHER
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert [outcome for _, outcome, *_ in outcomes(house.journal.disk.receipts[-1])] == [Outcome.INTERRUPTED] * 2


@dataclass(slots=True)
class Watching(Caller):
    """Looks, at every piece, at what would be booked if the process died now."""

    journal: MemoryJournal | None = None
    seen: list[tuple[str, int, str, int]] = field(default_factory=list)

    async def write(self, raw: bytes) -> None:
        self.sent.append(raw)
        assert self.journal is not None
        (intent,) = self.journal.disk.intents.values()
        other, running = intent.attempts
        self.seen.append((other.target, other.usage.output, running.target, running.usage.output))


@pytest.mark.parametrize("winner", ["first", "second"])
async def test_what_is_checkpointed_after_the_race_is_the_winners(winner: str) -> None:
    long = replace(LATE, words=tuple(f" {number}" for number in range(200)))
    loser = {"first": "second", "second": "first"}[winner]
    house = a_hedging_house(policy=hedged_policy("first", "second"), **{winner: long, loser: NEVER})
    caller = Watching(journal=house.journal)
    await answer(asked(house, stream=True), caller, house.gateway)
    assert len(caller.seen) >= 200
    for delivered, (other, made, running, covered) in enumerate(caller.seen):
        assert (other, made, running) == (loser, 0, winner)
        assert covered >= delivered
    assert receipt_of(house).attempts[0 if winner == "first" else 1].usage.output == 200


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _under_budget(amount: int) -> Policy:
    names = ("first", "second")
    targets = [a_target(name, context_tokens=8_192) for name in names]
    policy = a_policy(*targets, route=a_route(*names, output_tokens_most=500, hedge_after_s=AFTER_S))
    return replace(policy, budgets={"team": a_budget(amount)})


async def _held(house: House) -> Nanodollars:
    async with kept(house, MemoryBudgetBook()):
        await answer(asked(house), Caller(), house.gateway)
    (receipt,) = house.journal.disk.receipts
    (hold,) = receipt.holds
    assert receipt.charge <= hold.amount
    (purse,) = house.gateway.treasury.wallet._purses.values()
    assert (purse.held, purse.used) == (0, receipt.charge)
    return hold.amount


async def test_the_worst_of_both_is_held_before_the_second_is_asked_and_free_after_it() -> None:
    alone = a_hedging_house(policy=_under_budget(1_000_000_000), first=NOW, second=NOW)
    one = await _held(alone)
    both = a_hedging_house(policy=_under_budget(1_000_000_000), first=NEVER, second=NOW)
    assert await _held(both) == 2 * one
    assert len(receipt_of(both).attempts) == 2
    calls = both.provider.calls
    assert [call.output_tokens_cap for call in calls] == [500, 500]


async def test_a_budget_without_room_for_both_lets_the_first_go_on_alone() -> None:
    one = await _held(a_hedging_house(policy=_under_budget(1_000_000_000), first=NOW, second=NOW))
    house = a_hedging_house(policy=_under_budget(2 * one - 1), first=SLOW, second=NOW)
    assert await _held(house) == one
    assert outcomes(receipt_of(house)) == [("first", Outcome.COMPLETE, None, False)]
    at_s = house.gateway.clock.monotonic_s()
    assert sum(house.gateway.retries.take(at_s=at_s) for _ in range(200)) == 100, "the retry was given back"


# ── all of it ────────────────────────────────────────────────────────────────────────────────────────────────────────

_SCRIPTS = st.builds(
    Script,
    words=st.just(("one", " two", " three")),
    first_s=st.sampled_from([0.0, 0.002, 0.004, 0.006, 0.1]),
    fault=st.sampled_from([None, None, FaultKind.SERVER_ERROR, FaultKind.CUT, FaultKind.BAD_REQUEST]),
    fault_after=st.sampled_from([0, 2]),
    reports_usage=st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(
    scripts=st.tuples(_SCRIPTS, _SCRIPTS, _SCRIPTS),
    stream=st.booleans(),
    attempts=st.integers(1, 4),
    leaves_s=st.sampled_from([None, 0.001, 0.004, 0.008]),
)
def test_whatever_happens_there_is_one_whole_receipt_and_nothing_is_left_open(
    scripts: tuple[Script, ...], stream: bool, attempts: int, leaves_s: float | None
) -> None:
    async def run() -> House:
        names = ("first", "second", "third")
        timeouts = Timeouts(first_token_s=0.02, idle_s=0.02, total_s=0.05)
        policy = hedged_policy(*names, hedge_after_s=0.003, attempts=attempts, timeouts=timeouts)
        house, caller = a_hedging_house(policy=policy, **dict(zip(names, scripts, strict=True))), Caller()
        work = asyncio.create_task(answer(asked(house, stream=stream), caller, house.gateway))
        if leaves_s is not None:
            asyncio.get_running_loop().call_later(leaves_s, caller.leave)
        await asyncio.wait([work])
        fault = work.exception()
        assert fault is None or isinstance(fault, TargetFailure | CallerLeft), fault
        assert len(asyncio.all_tasks()) == 1
        return house

    house = asyncio.run(run())
    receipt = receipt_of(house)
    assert len(receipt.attempts) <= attempts
    assert sum(HEDGE_LOST in attempt.flags for attempt in receipt.attempts) <= 1
    assert sum(flag.startswith(HEDGED) for flag in receipt.flags) <= 1
    assert receipt.final is not None
    assert (receipt.final.outcome is Outcome.COMPLETE) == (receipt.outcome is Outcome.COMPLETE)
    for attempt, deed in zip(receipt.attempts, house.provider.deeds, strict=True):
        assert deed.complete or deed.hung_up or attempt.fault is not None, (deed, attempt)
        assert attempt.charge > 0 or not deed.worked or attempt.fault is not None
    assert not house.journal.disk.intents


# ── the race by itself ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Runner:
    """A contender that does what it is told, and remembers its end."""

    opens: Callable[[], None] | None = None
    answer: UpstreamAnswer | None = None
    ends: list[BaseException | None] = field(default_factory=list)

    def end(self, fault: BaseException | None) -> None:
        if not self.ends:
            self.ends.append(fault)

    async def open(self) -> None:
        while self.opens is None:
            await asyncio.sleep(0)
        self.opens()


def _fails(fault: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise fault

    return fail


async def _race(first: Runner, second: Runner, *, alone: Callable[[Runner], None] = lambda left: None) -> Runner | None:
    return await race(first, after_s=0.0, opening=Runner.open, another=lambda: second, alone=alone, failures=[])


async def test_of_two_that_open_in_the_same_moment_the_first_answers_and_the_other_has_ended() -> None:
    gate = asyncio.Event()

    async def together(runner: Runner) -> None:
        await gate.wait()

    def another() -> Runner:
        asyncio.get_running_loop().call_later(0.01, gate.set)
        return second

    first, second = Runner(), Runner()
    won = await race(first, after_s=0.0, opening=together, another=another, alone=lambda left: None, failures=[])
    assert won is first
    assert not first.ends
    assert [type(fault) for fault in second.ends] == [HedgeLost]


async def test_of_two_that_fail_in_the_same_moment_neither_is_told_to_be_alone() -> None:
    gate, told = asyncio.Event(), list[Runner]()

    async def together(runner: Runner) -> None:
        await gate.wait()
        raise TargetFailure("x", kind=FaultKind.CUT, target="x")

    def another() -> Runner:
        asyncio.get_running_loop().call_later(0.01, gate.set)
        return second

    first, second, failures = Runner(), Runner(), list[TargetFailure]()
    won = await race(first, after_s=0.0, opening=together, another=another, alone=told.append, failures=failures)
    assert (won, told, len(failures)) == (None, [], 2)
    assert [first.ends, second.ends] == [[failures[0]], [failures[1]]]


async def test_a_bug_in_one_ends_both_and_is_raised_as_it_is() -> None:
    first, second, bug = Runner(), Runner(), RuntimeError("a bug")
    second.opens = _fails(bug)
    with pytest.raises(RuntimeError, match="a bug"):
        await _race(first, second)
    assert first.ends == second.ends == [bug]
    assert len(asyncio.all_tasks()) == 1


async def test_a_spool_that_takes_no_intent_for_the_one_that_is_left_ends_it_too() -> None:
    failing, opening = Runner(opens=_fails(TargetFailure("x", kind=FaultKind.CUT, target="x"))), Runner()

    def refuse(left: Runner) -> None:
        raise LedgerUnavailable("full")

    with pytest.raises(LedgerUnavailable):
        await _race(opening, failing, alone=refuse)
    assert [type(fault) for fault in opening.ends] == [LedgerUnavailable]
    assert len(asyncio.all_tasks()) == 1
