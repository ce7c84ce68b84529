"""`app.flows.queueing`, `app.flows.queue_ticker`: a request waits for a place at a full target, and how that ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import pytest

from app.domain.errors import CallerLeft, FaultKind, NoPlace, NoTarget, TargetFailure
from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.pricing.rate_card import RateCard
from app.domain.routing.plan import Candidate, Refusal, RefusalReason
from app.domain.routing.policy import Policy, Rule, Timeouts
from app.domain.target import QueueSeen, Target, TargetSeen
from app.flows import leash
from app.flows.answer import answer
from app.flows.draft import STATUS_CALLER_LEFT
from app.flows.queue_ticker import LOOK_EVERY_S, QueueTicker
from app.flows.queueing import code_of_refusal, look
from app.providers.scripted import Script, Sleep
from tests.fakes.budget_book import MemoryBudgetBook
from tests.flows.house import Caller, House, a_house, asked
from tests.flows.test_hold import CENT, a_budget, kept
from tests.loop_clock import LoopClock
from tests.makers import a_caller, a_policy, a_route, a_target, some_facts

HOME = a_target("home", in_flight_most=1)
AWAY = a_target("away")
SLOW = Script(first_s=0.1)
ENDLESS = Script(first_s=60)


def _policy(*targets: Target, waits: bool = True, **timeouts: float) -> Policy:
    rule = Rule(name="patient", when=None, use=tuple(target.name for target in targets), waits=waits)
    bounds = Timeouts(**{"first_token_s": 30, "queue_s": 20, "total_s": 60, **timeouts})
    limited = tuple(target.name for target in targets if target.in_flight_most is not None)
    return replace(a_policy(*targets, route=a_route(rules=(rule,), timeouts=bounds)), queued=limited if waits else ())


class _Held:
    """The sleep of scripts that begin only once they are let go, however long those who wait for them take to come."""

    def __init__(self) -> None:
        self._let_go = asyncio.Event()

    async def __call__(self, pause_s: float) -> None:
        await self._let_go.wait()
        await asyncio.sleep(pause_s)

    def let_go(self) -> None:
        self._let_go.set()


def _house(*scripts: Script, policy: Policy | None = None, sleep: Sleep = asyncio.sleep) -> House:
    """The target "home" takes one at a time and follows these; "away" answers at once."""
    return a_house({"home": scripts or [SLOW], "away": [Script()]}, policy=policy or _policy(HOME), sleep=sleep)


def _ask(
    house: House, number: int, *, team: str = "research", caller: Caller | None = None, **facts: object
) -> asyncio.Task[None]:
    request = asked(house, request_id=f"r{number}", caller=a_caller(team=team, key_id=f"key-{team}"), **facts)
    return asyncio.create_task(answer(request, caller or Caller(), house.gateway))


async def _until_waiting(house: House, count: int) -> None:
    async with asyncio.timeout(10):
        while house.gateway.queues.waiting != count:
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def _full(house: House, *, stream: bool = False) -> AsyncIterator[asyncio.Task[None]]:
    """One request is in flight at home, and at the end it is not."""
    one = _ask(house, 0, team="first", stream=stream)
    async with asyncio.timeout(10):
        while not house.provider.calls:
            await asyncio.sleep(0)
    yield one
    one.cancel()
    await asyncio.gather(one, return_exceptions=True)


def _receipt(house: House, number: int) -> Receipt:
    (receipt,) = [receipt for receipt in house.told.receipts if receipt.request_id == f"r{number}"]
    return receipt


async def test_who_meets_a_full_target_waits_and_is_sent_when_a_place_is_free() -> None:
    house = _house()
    await asyncio.gather(*(_ask(house, number) for number in range(3)))
    receipts = [_receipt(house, number) for number in range(3)]
    assert [receipt.outcome for receipt in receipts] == [Outcome.COMPLETE] * 3
    assert [receipt.waited_s > 0 for receipt in receipts] == [False, True, True]
    for earlier, later in pairwise(receipts):
        (before,), (after,) = earlier.attempts, later.attempts
        assert after.started_us >= before.started_us + 90_000
    assert receipts[2].waited_s > receipts[1].waited_s
    assert receipts[2].overhead_s <= receipts[2].duration_s - receipts[2].waited_s + 0.001, "waiting is no overhead"
    assert receipts[2].flag_words == {"waited"}
    assert "for a place at home." in receipts[2].remarks[0]
    assert house.told.waits == [("home", "sent"), ("home", "sent")]
    assert house.gateway.queues.waiting == 0


async def test_a_flood_of_one_team_delays_anothers_single_request_by_one_service_time() -> None:
    held = _Held()
    house = _house(Script(first_s=0.03), sleep=held)
    flood = [_ask(house, number, team="flood") for number in range(20)]
    await _until_waiting(house, 19)
    single = _ask(house, 100, team="single")
    await _until_waiting(house, 20)
    sent_before = len(house.provider.calls)
    held.let_go()
    await asyncio.gather(single, *flood)
    order = [call.attempt_id for call in house.provider.calls]
    assert order.index("r100/1") <= sent_before + 1, "behind who is served, and at most one of the flood"
    own = [int(each[1:-2]) for each in order if each != "r100/1"]
    assert own == sorted(own), "in a team, who came first is served first"


async def test_who_waited_where_a_connection_broke_meanwhile_is_sent_only_once_it_is_known_what_is_there() -> None:
    held = _Held()
    house = _house(Script(first_s=0.1, fault=FaultKind.CUT, fault_after=1), policy=_policy(HOME, AWAY), sleep=held)
    about: list[str] = []

    async def make_sure(name: str) -> None:
        about.append(name)
        house.gateway.fleet.serves(name, instead="llama")
        house.gateway.fleet.is_sure(name, at_s=house.gateway.clock.monotonic_s())

    house.gateway = replace(house.gateway, make_sure=make_sure)
    broken, waiting = _ask(house, 0, stream=True), _ask(house, 1)
    await _until_waiting(house, 1)
    assert not about
    held.let_go()
    with pytest.raises(TargetFailure):
        await broken
    await waiting
    receipt = _receipt(house, 1)
    assert about == ["home"]
    assert [attempt.target for attempt in receipt.attempts] == ["away"]
    assert receipt.waited_s > 0
    assert house.gateway.queues.waiting == 0


async def test_a_target_that_never_says_what_it_serves_keeps_nobody_waiting_for_ever() -> None:
    held = _Held()
    house = _house(Script(first_s=0.1, fault=FaultKind.CUT, fault_after=1), SLOW, sleep=held)
    about: list[str] = []

    async def make_sure(name: str) -> None:
        about.append(name)

    house.gateway = replace(house.gateway, make_sure=make_sure)
    broken, waiting = _ask(house, 0, stream=True), _ask(house, 1)
    await _until_waiting(house, 1)
    held.let_go()
    with pytest.raises(TargetFailure):
        await broken
    await asyncio.wait_for(waiting, 10)
    assert about == ["home"]
    assert [attempt.target for attempt in _receipt(house, 1).attempts] == ["home"]


async def test_two_teams_that_flood_are_served_in_turn() -> None:
    held = _Held()
    house = _house(Script(first_s=0.01), sleep=held)
    tasks = [_ask(house, number, team="a") for number in range(10)]
    tasks += [_ask(house, number, team="b") for number in range(100, 110)]
    await _until_waiting(house, 19)
    held.let_go()
    await asyncio.gather(*tasks)
    teams = ["b" if len(call.attempt_id) > 4 else "a" for call in house.provider.calls]
    assert abs(teams[:10].count("a") - 5) <= 1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_caller_who_leaves_while_it_waits_is_out_at_once_and_has_asked_nobody(stream: bool) -> None:
    house, caller = _house(ENDLESS), Caller()
    async with _full(house):
        work = _ask(house, 1, caller=caller, stream=stream)
        await _until_waiting(house, 1)
        caller.leave()
        with pytest.raises(CallerLeft):
            await asyncio.wait_for(work, 5)
        assert house.gateway.queues.waiting == 0
    receipt = _receipt(house, 1)
    assert (receipt.outcome, receipt.status, receipt.attempts) == (Outcome.ABANDONED, STATUS_CALLER_LEFT, ())
    assert receipt.charge == 0
    assert receipt.flag_words == {"waited"}
    assert house.told.waits == [("home", "left")]
    assert len(house.provider.calls) == 1


async def test_what_was_held_for_who_leaves_the_queue_is_free_again() -> None:
    policy = _policy(HOME)
    policy = replace(policy, budgets={"team": a_budget(100 * CENT)})
    house, book, caller = _house(ENDLESS, policy=policy), MemoryBudgetBook(), Caller()
    async with kept(house, book), _full(house):
        work = _ask(house, 1, caller=caller)
        await _until_waiting(house, 1)
        caller.leave()
        with pytest.raises(CallerLeft):
            await asyncio.wait_for(work, 5)
    left = _receipt(house, 1)
    assert left.holds
    assert left.charge == 0
    await house.gateway.treasury.leave(book)
    ((_, each),) = book.kept.items()
    assert each.account.standing().leased == 0


async def test_a_place_that_was_reserved_for_who_leaves_is_the_next_ones() -> None:
    held, caller = _Held(), Caller()
    house = _house(Script(first_s=0.05), sleep=held)
    async with _full(house) as first:
        leaving = _ask(house, 1, caller=caller)
        await _until_waiting(house, 1)
        staying = _ask(house, 2)
        await _until_waiting(house, 2)
        first.add_done_callback(lambda done: caller.leave())
        held.let_go()
        await asyncio.gather(first, leaving, return_exceptions=True)
        await asyncio.wait_for(staying, 5)
    assert _receipt(house, 2).outcome is Outcome.COMPLETE
    assert house.gateway.queues.waiting == 0


async def test_who_is_cancelled_between_its_turn_and_its_wake_leaves_the_place_to_the_next_one_at_once() -> None:
    house = _house(ENDLESS)
    async with _full(house):
        leaving = _ask(house, 1)
        await _until_waiting(house, 1)
        staying = _ask(house, 2)
        await _until_waiting(house, 2)
        raised = _policy(replace(HOME, in_flight_most=2))
        house.gateway.policy.swap(raised)
        house.gateway.fleet.follow(raised)
        assert look(house.gateway), "one place, which is reserved for the first of them"
        assert house.gateway.queues.waiting == 1
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        assert house.gateway.queues.waiting == 0, "without waiting for anybody who looks now and then"
        async with asyncio.timeout(10):
            while len(house.provider.calls) < 2:
                await asyncio.sleep(0)
        assert house.provider.calls[1].attempt_id == "r2/1"
        staying.cancel()
        await asyncio.gather(staying, return_exceptions=True)
    assert house.told.waits[0] == ("home", "left")


async def test_who_may_wait_no_longer_goes_to_the_next_candidate() -> None:
    house = _house(ENDLESS, policy=_policy(HOME, AWAY, queue_s=0.1))
    async with _full(house):
        await _ask(house, 1)
    receipt = _receipt(house, 1)
    assert [attempt.target for attempt in receipt.attempts] == ["away"]
    assert receipt.attempts[0].number == 1
    assert receipt.waited_s >= 0.09
    assert "no place came free within 0.1 s" in receipt.remarks[0]
    assert house.told.waits == [("home", "timeout")]
    assert house.gateway.retries.refused == 0


async def test_who_may_wait_no_longer_and_has_nobody_else_is_told_so() -> None:
    house = _house(ENDLESS, policy=_policy(HOME, queue_s=0.1))
    async with _full(house):
        with pytest.raises(NoPlace, match="home is full, and the request got no place there") as caught:
            await _ask(house, 1)
    assert caught.value.code == "queue_timeout"
    receipt = _receipt(house, 1)
    assert (receipt.outcome, receipt.status, receipt.attempts) == (Outcome.REFUSED, 503, ())


@pytest.mark.parametrize(
    ("timeouts", "facts"),
    [({"total_s": 0.2}, {}), ({}, {"deadline_s": 0.2}), ({"queue_s": 0.2}, {})],
    ids=["the total time", "the caller's own deadline", "the queue's time"],
)
async def test_nobody_waits_beyond_what_bounds_the_request(
    timeouts: dict[str, float], facts: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leash, "LOOK_EVERY_S", 5.0)  # it ends what takes too long in all, and is not to come first
    house = _house(ENDLESS)
    async with _full(house):
        house.gateway.policy.swap(_policy(HOME, **timeouts))
        with pytest.raises(NoPlace) as caught:
            await asyncio.wait_for(_ask(house, 1, **facts), 10)
    assert caught.value.code == "queue_timeout"
    assert not _receipt(house, 1).attempts


async def test_the_time_for_waiting_is_the_requests_and_not_each_targets() -> None:
    other = a_target("other", in_flight_most=1)
    policy = _policy(HOME, other, AWAY, queue_s=0.1)
    house = a_house({"home": [ENDLESS], "other": [ENDLESS], "away": [Script()]}, policy=policy)
    async with _full(house):
        second = _ask(house, 1)
        async with asyncio.timeout(10):
            while len(house.provider.calls) < 2:  # it gave up home and is now in flight at the other
                await asyncio.sleep(0.01)
        await _ask(house, 2)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
    receipt = _receipt(house, 2)
    assert [attempt.target for attempt in receipt.attempts] == ["away"]
    assert len(receipt.remarks) == 2
    assert "other was passed over" in receipt.remarks[1].lower()


async def test_a_wait_that_is_predicted_to_be_too_long_is_not_begun() -> None:
    house = _house(SLOW, SLOW, ENDLESS, policy=_policy(HOME, AWAY))
    await asyncio.gather(_ask(house, 1), _ask(house, 2))
    house.gateway.policy.swap(_policy(HOME, AWAY, queue_s=1.5))
    house.gateway.queues.answered("home", after_s=1_000.0)
    async with asyncio.timeout(10):
        house.provider.calls.clear()
        async with _full(house):
            await _ask(house, 3)
            house.gateway.policy.swap(_policy(HOME, queue_s=1.5))
            with pytest.raises(NoTarget) as caught:
                await _ask(house, 4)
    assert caught.value.code == "queue_timeout"
    receipt = _receipt(house, 3)
    (home, away) = receipt.decision.candidates
    assert home.filter == "queue"
    assert home.rejected is not None
    assert home.rejected.startswith("0 requests are ahead in its queue and a place is predicted after ")
    assert home.rejected.endswith(" a request may wait 1.5 s")
    assert away.place == 0
    assert receipt.waited_s == 0


async def test_the_predicted_first_token_has_the_wait_in_it() -> None:
    house = _house(SLOW, SLOW, ENDLESS, policy=_policy(HOME))
    await asyncio.gather(_ask(house, 1, stream=True), _ask(house, 2, stream=True))
    async with asyncio.timeout(10):
        house.provider.calls.clear()
        async with _full(house):
            leaving = Caller()
            work = _ask(house, 3, caller=leaving)
            await _until_waiting(house, 1)
            leaving.leave()
            await asyncio.gather(work, return_exceptions=True)
    (candidate,) = _receipt(house, 3).decision.candidates
    assert candidate.seen.queue is not None
    assert candidate.seen.queue.predicted_wait_ms is not None
    assert candidate.seen.queue.predicted_wait_ms >= 50
    assert candidate.expected_ttft_ms is not None
    assert candidate.expected_ttft_ms >= 100 + candidate.seen.queue.predicted_wait_ms


async def test_a_target_that_dies_lets_those_who_wait_go_on_at_once() -> None:
    held = _Held()
    house = _house(ENDLESS, policy=_policy(HOME, AWAY, first_token_s=0.2), sleep=held)
    clock = house.gateway.clock
    async with _full(house, stream=True) as first:
        waiting = [_ask(house, number) for number in range(1, 4)]
        await _until_waiting(house, 3)
        held.let_go()
        await first
        died_s = clock.monotonic_s()
        await asyncio.gather(*waiting)
        assert clock.monotonic_s() - died_s < 15, "and not when they have waited for 20 s"
    for number in range(1, 4):
        receipt = _receipt(house, number)
        assert [attempt.target for attempt in receipt.attempts] == ["away"]
        assert "its circuit is open after repeated failures (first_token_timeout)" in receipt.remarks[0]


async def test_a_short_pause_that_a_target_asks_for_is_waited_out_in_the_queue() -> None:
    asks = Script(fault=FaultKind.RATE_LIMITED, retry_after_s=0.5, first_s=0.1)
    house = _house(SLOW, asks, Script(), policy=_policy(HOME, AWAY))
    await asyncio.gather(*(_ask(house, number) for number in range(5)))
    receipts = [_receipt(house, number) for number in range(5)]
    assert [receipt.outcome for receipt in receipts] == [Outcome.COMPLETE] * 5
    by_target = [[attempt.target for attempt in receipt.attempts] for receipt in receipts]
    assert by_target == [["home"], ["home", "away"], ["home"], ["home"], ["home"]]
    assert all(receipt.waited_s >= 0.5 for receipt in receipts[2:])


async def test_a_pause_that_is_longer_than_a_request_may_wait_sends_it_on_at_once() -> None:
    asks = Script(fault=FaultKind.RATE_LIMITED, retry_after_s=60, first_s=0.1)
    house = _house(SLOW, asks, Script(), policy=_policy(HOME, AWAY))
    await asyncio.gather(*(_ask(house, number) for number in range(4)))
    for number in (2, 3):
        receipt = _receipt(house, number)
        assert [attempt.target for attempt in receipt.attempts] == ["away"]
        assert receipt.waited_s < 10


async def test_nobody_is_sent_into_a_minute_that_was_used_up_while_it_waited() -> None:
    home = replace(HOME, tokens_per_minute=100)
    house, clock = _house(Script(first_s=0.05, prompt_tokens=30), policy=_policy(home)), LoopClock()
    *served, last = (_ask(house, number, prompt_tokens=30) for number in range(4))
    await asyncio.gather(*served)
    await asyncio.sleep(2 * LOOK_EVERY_S)
    assert not last.done()
    await clock.pass_s(20)
    with pytest.raises(NoPlace):
        await last
    assert len(house.provider.calls) == 3, "100 tokens are three prompts of 30"
    assert _receipt(house, 3).status == 503


async def test_a_target_that_dies_with_nobody_else_is_told_at_once() -> None:
    held = _Held()
    house = _house(ENDLESS, policy=_policy(HOME, first_token_s=0.2), sleep=held)
    async with _full(house, stream=True) as first:
        waiting = _ask(house, 1)
        await _until_waiting(house, 1)
        held.let_go()
        with pytest.raises(TargetFailure):
            await first
        with pytest.raises(NoPlace) as caught:
            await asyncio.wait_for(waiting, 15)
    assert caught.value.code == "no_target"


async def test_a_fallback_that_is_full_is_waited_for_too() -> None:
    broken = Script(fault=FaultKind.REFUSED_CONNECTION)
    first = a_target("first")
    policy = _policy(first, HOME)
    house = a_house({"first": [broken], "home": [SLOW]}, policy=policy)
    await asyncio.gather(_ask(house, 1), _ask(house, 2))
    (later,) = [receipt for receipt in house.told.receipts if receipt.waited_s]
    assert [attempt.target for attempt in later.attempts] == ["first", "home"]
    assert later.outcome is Outcome.COMPLETE


async def test_a_full_queue_makes_room_for_another_team_and_who_has_to_go_goes_on() -> None:
    home = replace(HOME, waiting_most=2)
    house = _house(ENDLESS, policy=_policy(home, AWAY))
    async with _full(house):
        flood = [_ask(house, number, team="flood") for number in (1, 2)]
        await _until_waiting(house, 2)
        single = _ask(house, 3, team="single")
        await flood[1]
        assert house.gateway.queues.waiting == 2
        receipt = _receipt(house, 2)
        assert [attempt.target for attempt in receipt.attempts] == ["away"]
        assert "most of them of this team" in receipt.remarks[0]
        await _ask(house, 4, team="flood")
        refused = _receipt(house, 4)
        assert refused.decision.candidates[0].filter == "queue"
        for task in (flood[0], single):
            task.cancel()
        await asyncio.gather(flood[0], single, return_exceptions=True)
    assert house.gateway.queues.waiting == 0


async def test_a_herd_is_served_as_far_as_the_queue_goes_and_the_rest_is_refused_at_once() -> None:
    """F-43: attempts are bounded by places and queue, and never more are in flight than the limit."""
    home = replace(HOME, in_flight_most=4, waiting_most=16)
    house = _house(Script(first_s=0.05), policy=_policy(home))
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, house.gateway.fleet.in_flight()["home"])
            await asyncio.sleep(0.001)

    watching = asyncio.create_task(watch())
    ended = await asyncio.gather(*(_ask(house, number) for number in range(400)), return_exceptions=True)
    watching.cancel()
    refused = [fault for fault in ended if fault is not None]
    assert all(isinstance(fault, NoPlace | NoTarget) for fault in refused)
    assert {fault.code for fault in refused if isinstance(fault, NoPlace | NoTarget)} == {"queue_full"}
    assert len(house.provider.calls) == 400 - len(refused)
    assert len(house.provider.calls) >= 20
    assert len(refused) >= 300
    assert most <= 4
    assert {receipt.status for receipt in house.told.receipts if not receipt.attempts} == {503}


async def test_who_waits_keeps_its_policy_and_finds_a_target_that_has_left_it() -> None:
    held = _Held()
    house = _house(sleep=held)
    first, second = _ask(house, 1), _ask(house, 2)
    await _until_waiting(house, 1)
    held.let_go()
    gone = a_policy(AWAY)
    house.gateway.policy.swap(gone)
    house.gateway.fleet.follow(gone)
    await asyncio.gather(first, second)
    assert _receipt(house, 2).attempts[0].target == "home"
    assert _receipt(house, 2).policy_digest == _receipt(house, 1).policy_digest
    look(house.gateway)
    assert house.gateway.queues.lengths() == {}
    assert "home" not in house.gateway.fleet.in_flight()


async def test_a_limit_that_is_raised_lets_in_who_waits() -> None:
    house = _house(ENDLESS)
    async with _full(house):
        waiting = _ask(house, 1)
        await _until_waiting(house, 1)
        raised = _policy(replace(HOME, in_flight_most=5))
        house.gateway.policy.swap(raised)
        house.gateway.fleet.follow(raised)
        async with asyncio.timeout(10):
            while len(house.provider.calls) < 2:
                await asyncio.sleep(LOOK_EVERY_S / 5)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_a_stop_refuses_who_waits_cleanly() -> None:
    house = _house(ENDLESS)
    async with _full(house):
        waiting = _ask(house, 1)
        await _until_waiting(house, 1)
        house.gateway.queues.stop()
        with pytest.raises(NoPlace, match="was told to stop") as caught:
            await waiting
        assert caught.value.code == "overloaded"
        with pytest.raises(NoPlace):
            await _ask(house, 2)
    assert _receipt(house, 1).outcome is Outcome.REFUSED


async def test_a_handler_that_is_cancelled_while_it_waits_still_leaves_a_receipt() -> None:
    house = _house(ENDLESS)
    async with _full(house):
        waiting = _ask(house, 1)
        await _until_waiting(house, 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert _receipt(house, 1).outcome is Outcome.INTERRUPTED
    assert house.gateway.queues.waiting == 0


async def test_a_rule_that_does_not_wait_goes_elsewhere_and_never_queues() -> None:
    house = _house(ENDLESS, policy=_policy(HOME, waits=False))
    async with _full(house):
        with pytest.raises(NoTarget, match="its limit is 1") as caught:
            await _ask(house, 1)
    assert caught.value.code is None
    assert house.told.waits == []
    assert house.gateway.queues.lengths() == {}


def test_who_is_refused_when_it_comes_is_told_which_queue_kept_it_out() -> None:
    policy = _policy(replace(HOME, waiting_most=2), AWAY)
    late, full = QueueSeen(waiting=1, ahead=1, predicted_wait_ms=9e6), QueueSeen(waiting=2, ahead=2, is_full=True)

    def code(*seen: tuple[str, str, TargetSeen]) -> str | None:
        candidates = tuple(
            Candidate(target=name, rejected="no", filter=kept_out_by, seen=each) for name, kept_out_by, each in seen
        )
        refusal = Refusal(reason=RefusalReason.NO_TARGET, rule="patient", message="no", candidates=candidates)
        return code_of_refusal(refusal, facts=some_facts(), policy=policy)

    out = ("away", "credential", TargetSeen(credential_present=False))
    assert code(("home", "queue", TargetSeen(in_flight=1, queue=full)), out) == "queue_full"
    assert code(("home", "queue", TargetSeen(in_flight=1, queue=late)), out) == "queue_timeout"
    engines_own = TargetSeen(in_flight=1, waiting=2, queue=late)
    assert code(("home", "queue", engines_own), out) == "queue_full"
    assert code(("home", "circuit", TargetSeen(queue=full)), out) is None


async def test_a_next_candidate_that_costs_more_holds_more_before_it_is_asked() -> None:
    dear = a_target("away", rate_card=RateCard.of(prompt=Decimal(5), cached_prompt=Decimal(5), output=Decimal(40)))
    policy = _policy(HOME, dear, queue_s=0.1)
    policy = replace(policy, budgets={"team": replace(a_budget(1_000 * CENT), team=None)})
    house, book = _house(ENDLESS, policy=policy), MemoryBudgetBook()
    async with kept(house, book), _full(house):
        await _ask(house, 1)
    receipt = _receipt(house, 1)
    assert [attempt.target for attempt in receipt.attempts] == ["away"]
    assert receipt.holds[0].amount >= 10 * _receipt(house, 0).holds[0].amount


async def test_without_money_for_the_next_candidate_the_full_one_is_what_is_told() -> None:
    dear = a_target("away", rate_card=RateCard.of(prompt=Decimal(500), cached_prompt=Decimal(5), output=Decimal(4000)))
    policy = _policy(HOME, dear, queue_s=0.1)
    policy = replace(policy, budgets={"team": replace(a_budget(100 * CENT), team=None)})
    house, book = _house(ENDLESS, policy=policy), MemoryBudgetBook()
    async with kept(house, book), _full(house):
        with pytest.raises(NoPlace) as caught:
            await _ask(house, 1)
    assert caught.value.target == "home"
    assert not _receipt(house, 1).attempts


async def test_the_ticker_looks_until_nobody_waits_and_no_longer() -> None:
    ticker, looks = QueueTicker(), iter([True, True, False])
    seen = []

    def look_once() -> bool:
        seen.append(next(looks))
        return seen[-1]

    ticker.watch(look_once)
    ticker.watch(look_once)
    async with asyncio.timeout(10):
        while len(seen) < 3:
            await asyncio.sleep(LOOK_EVERY_S / 5)
    await asyncio.sleep(2 * LOOK_EVERY_S)
    assert seen == [True, True, False]
