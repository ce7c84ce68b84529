from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from app.domain.errors import FaultKind
from app.domain.routing.decide import decide
from app.domain.routing.explain import explain
from app.domain.routing.filters import FILTERS_THAT_WAIT, rests
from app.domain.routing.last_resort import last_resort
from app.domain.routing.plan import Plan, Refusal
from app.domain.routing.policy import Policy
from app.domain.routing.ranking import Contender
from app.domain.routing.replay import replayed
from app.domain.routing.snapshot import Snapshot
from app.domain.target import Circuit, TargetSeen
from tests.makers import CARD, NOON, a_policy, a_target, some_facts

RESTS = TargetSeen(rate_card=CARD, circuit=Circuit.OPEN, rests_after="server_error")
LAST = replace(RESTS, is_last_resort=True)
SERVES = TargetSeen(rate_card=CARD)
TWO = a_policy(a_target("first"), a_target("second"))


def _decided(policy: Policy = TWO, **fleet: TargetSeen) -> Plan | Refusal:
    return decide(some_facts(), Snapshot(policy=policy, fleet=fleet, at=NOON))


def test_while_anybody_may_serve_nobody_asks_those_that_rest() -> None:
    plan = _decided(first=LAST, second=SERVES)
    assert isinstance(plan, Plan)
    assert plan.order == ("second",)
    assert plan.candidates[0].rejected == "its circuit is open after repeated failures (server_error)"


def test_when_nobody_may_serve_the_first_that_is_due_is_asked_and_the_plan_says_why() -> None:
    plan = _decided(first=RESTS, second=LAST)
    assert isinstance(plan, Plan)
    assert plan.order == ("second",)
    one = plan.candidates[1]
    assert (one.filter, one.place, one.rejected) == ("circuit", 0, None)
    assert "nobody else may serve" in " ".join(explain(plan))


def test_between_two_tries_of_the_last_resort_requests_are_refused_at_once() -> None:
    assert isinstance(_decided(first=RESTS, second=RESTS), Refusal)


def test_a_last_resort_passes_every_other_filter() -> None:
    small = a_policy(a_target("first", in_flight_most=1))
    refusal = decide(some_facts(), Snapshot(policy=small, fleet={"first": replace(LAST, in_flight=1)}, at=NOON))
    assert isinstance(refusal, Refusal)
    assert refusal.candidates[0].filter == "room"


def test_such_a_decision_replays() -> None:
    plan = _decided(first=RESTS, second=LAST)
    assert replayed(some_facts(), plan, at_us=round(NOON.timestamp() * 1e6), policy=TWO) == plan


def test_what_the_policy_rejects_besides_the_filters_stays_rejected() -> None:
    one = Contender(a_target("first"), LAST)
    one.filter, one.rejected = "circuit", rests(LAST)

    def reject_others(contenders: Sequence[Contender]) -> None:
        for each in contenders:
            each.filter, each.rejected = "budget", "the budget is used up"

    rule = TWO.routes["chat"].rules[0]
    assert last_resort([one], some_facts(), rule, reject_others=reject_others) == []
    assert (one.filter, one.rejected) == ("budget", "the budget is used up")


def test_an_account_that_rests_is_called_so() -> None:
    for kind, words in ((FaultKind.MONEY_GONE, "no money left"), (FaultKind.AUTH, "not accepted")):
        assert words in (rests(replace(RESTS, rests_after=kind.value)) or "")
    assert rests(SERVES) is None
    assert "circuit" in dict(FILTERS_THAT_WAIT)
