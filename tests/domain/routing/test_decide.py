from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.pricing.rate_card import RateCard
from app.domain.routing.decide import decide
from app.domain.routing.facts import Endpoint
from app.domain.routing.plan import Plan, Refusal, RefusalReason
from app.domain.routing.policy import Preference, Rule, Shadow, Timeouts
from app.domain.routing.replay import replayed
from app.domain.routing.snapshot import Snapshot
from app.domain.target import Capability, Circuit, QueueSeen, TargetSeen
from tests.makers import CARD, CHEAP, a_caller, a_route, a_snapshot, a_target, some_facts


@dataclass(frozen=True)
class TeamIs:
    """A condition without CEL: the caller's team."""

    team: str
    source: str = "caller.team == …"
    reads_fleet: frozenset[str] = frozenset()
    reads_budgets: frozenset[str] = frozenset()

    def holds(self, names: Mapping[str, object]) -> bool:
        caller = names["caller"]
        assert isinstance(caller, dict)
        return bool(caller["team"] == self.team)


def test_the_first_rule_that_matches_wins() -> None:
    legal = Rule(name="legal", when=TeamIs("legal"), use=("home",))
    rest = Rule(name="rest", when=None, use=("away", "home"))
    snapshot = a_snapshot(a_target("home"), a_target("away"), route=a_route("home", rules=(legal, rest)))
    for team, rule, first in (("legal", "legal", "home"), ("sales", "rest", "away")):
        plan = decide(some_facts(caller=a_caller(team=team)), snapshot)
        assert isinstance(plan, Plan)
        assert (plan.rule, plan.order[0]) == (rule, first)


def test_without_a_matching_rule_the_answer_is_a_refusal_and_not_a_guess() -> None:
    route = a_route("home", rules=(Rule(name="legal", when=TeamIs("legal"), use=("home",)),))
    refusal = decide(some_facts(), a_snapshot(a_target("home"), route=route))
    assert isinstance(refusal, Refusal)
    assert refusal.reason is RefusalReason.NO_RULE


def test_every_candidate_is_in_the_plan_with_its_reason_or_its_place() -> None:
    snapshot = a_snapshot(
        a_target("blind"),
        a_target("home", can=frozenset(Capability)),
        a_target("full", can=frozenset(Capability), in_flight_most=3),
        full=TargetSeen(in_flight=3, rate_card=CARD),
    )
    plan = decide(some_facts(has_images=True), snapshot)
    assert isinstance(plan, Plan)
    assert plan.order == ("home",)
    said = {candidate.target: (candidate.filter, candidate.place) for candidate in plan.candidates}
    assert said == {"blind": ("features", None), "home": (None, 0), "full": ("room", None)}


def test_each_filter_rejects_what_it_is_for_and_names_its_figures() -> None:
    cases = {
        "endpoint": (a_target(can=frozenset({Capability.COMPLETIONS})), TargetSeen(rate_card=CARD)),
        "context": (a_target(context_tokens=899), TargetSeen(rate_card=CARD)),
        "credential": (a_target(credential="env:X"), TargetSeen(rate_card=CARD, credential_present=False)),
        "model": (a_target(), TargetSeen(rate_card=CARD, serves_instead="llama")),
        "price": (a_target(rate_card=None), TargetSeen()),
        "circuit": (a_target(), TargetSeen(rate_card=CARD, circuit=Circuit.OPEN)),
        "room": (a_target(in_flight_most=1), TargetSeen(rate_card=CARD, in_flight=1)),
    }
    for name, (target, seen) in cases.items():
        refusal = decide(some_facts(endpoint=Endpoint.CHAT), a_snapshot(target, home=seen))
        assert isinstance(refusal, Refusal), name
        assert refusal.candidates[0].filter == name
        assert target.name in refusal.message


def test_a_half_open_circuit_may_be_probed() -> None:
    plan = decide(some_facts(), a_snapshot(home=TargetSeen(rate_card=CARD, circuit=Circuit.HALF_OPEN)))
    assert isinstance(plan, Plan)


def test_cheapest_asks_the_lower_charge_first_whatever_the_list_says() -> None:
    route = a_route(
        "dear", "cheap", rules=(Rule(name="r", when=None, use=("dear", "cheap"), prefer=Preference.CHEAPEST),)
    )
    snapshot = a_snapshot(a_target("dear"), a_target("cheap", rate_card=CHEAP), route=route)
    plan = decide(some_facts(), snapshot)
    assert isinstance(plan, Plan)
    assert plan.order == ("cheap", "dear")


def test_equal_charges_are_ordered_by_name() -> None:
    route = a_route("b", "a", rules=(Rule(name="r", when=None, use=("b", "a"), prefer=Preference.CHEAPEST),))
    plan = decide(some_facts(), a_snapshot(a_target("b"), a_target("a"), route=route))
    assert isinstance(plan, Plan)
    assert plan.order == ("a", "b")


def _weighted(weights: dict[str, int]) -> object:
    rule = Rule(name="r", when=None, use=tuple(weights), prefer=Preference.WEIGHTED, weights=weights)
    return a_snapshot(*(a_target(name) for name in weights), route=a_route(*weights, rules=(rule,)))


def test_weights_are_shares_over_many_requests() -> None:
    snapshot = _weighted({"a": 90, "b": 10})
    picks = Counter(decide(some_facts(request_id=f"request-{n}"), snapshot).order[0] for n in range(4000))  # type: ignore[arg-type,union-attr]
    assert 3500 <= picks["a"] <= 3700


def test_a_target_of_weight_zero_is_only_a_last_resort() -> None:
    snapshot = _weighted({"a": 0, "b": 1, "c": 5})
    for n in range(200):
        plan = decide(some_facts(request_id=f"request-{n}"), snapshot)  # type: ignore[arg-type]
        assert isinstance(plan, Plan)
        assert plan.order[-1] == "a"
        assert sorted(plan.order) == ["a", "b", "c"]


@pytest.mark.parametrize(("deadline_s", "order"), [(None, ("home", "away")), (4.0, ("away",)), (6.0, ("home", "away"))])
def test_a_queue_that_is_longer_than_the_request_may_wait_is_left_for_the_next(
    deadline_s: float | None, order: tuple[str, ...]
) -> None:
    rule = Rule(name="r", when=None, use=("home", "away"), waits=True)
    route = a_route("home", rules=(rule,), timeouts=Timeouts(queue_s=5.0))
    seen = TargetSeen(in_flight=2, rate_card=CARD, queue=QueueSeen(waiting=9, ahead=3, predicted_wait_ms=4500.0))
    snapshot = a_snapshot(a_target("home", in_flight_most=2), a_target("away"), route=route, home=seen)
    plan = decide(some_facts(deadline_s=deadline_s), snapshot)
    assert isinstance(plan, Plan)
    assert plan.order == order
    assert plan.candidates[0].seen.queue == seen.queue


def test_a_rule_that_waits_keeps_a_full_target() -> None:
    full = TargetSeen(in_flight=3, rate_card=CARD)
    for waits, order in ((False, ("away",)), (True, ("home", "away"))):
        rule = Rule(name="r", when=None, use=("home", "away"), waits=waits)
        targets = (a_target("home", in_flight_most=3, waiting_most=2), a_target("away"))
        plan = decide(some_facts(), a_snapshot(*targets, route=a_route("home", rules=(rule,)), home=full))
        assert isinstance(plan, Plan)
        assert plan.order == order


def _mirrored(*, share_ppm: int, mirror: TargetSeen | None = None, target: str = "mirror") -> Snapshot:
    rule = Rule(name="r", when=None, use=("home",), shadow=Shadow(target=target, share_ppm=share_ppm))
    seen = TargetSeen(rate_card=CARD) if mirror is None else mirror
    return a_snapshot(
        a_target("home"), a_target("mirror", in_flight_most=1), route=a_route("x", rules=(rule,)), mirror=seen
    )


def _shadow(snapshot: Snapshot, request_id: str = "r") -> str | None:
    plan = decide(some_facts(request_id=request_id), snapshot)
    assert isinstance(plan, Plan)
    assert plan.order == ("home",)
    return plan.shadow


def test_a_share_of_the_requests_has_a_shadow() -> None:
    snapshot = _mirrored(share_ppm=250_000)
    drawn = [n for n in range(1000) if _shadow(snapshot, f"request-{n}") == "mirror"]
    assert 200 <= len(drawn) <= 300
    assert drawn == [n for n in range(1000) if _shadow(snapshot, f"request-{n}") == "mirror"]


def test_a_shadow_that_could_not_serve_gets_no_copy() -> None:
    assert _shadow(_mirrored(share_ppm=1_000_000)) == "mirror"
    for seen in (
        TargetSeen(rate_card=CARD, in_flight=1),
        TargetSeen(rate_card=CARD, circuit=Circuit.OPEN),
        TargetSeen(),
    ):
        assert _shadow(_mirrored(share_ppm=1_000_000, mirror=seen)) is None


def test_the_pick_itself_gets_no_copy() -> None:
    assert _shadow(_mirrored(share_ppm=1_000_000, target="home")) is None


PRICES = st.decimals(min_value=0, max_value=100, places=3)


@given(
    prompt=st.integers(min_value=1, max_value=200_000),
    prices=st.lists(st.tuples(PRICES, PRICES), min_size=1, max_size=8),
    prefer=st.sampled_from(Preference),
    full=st.sets(st.integers(min_value=0, max_value=7)),
    request=st.uuids(),
)
def test_the_same_question_has_the_same_answer_and_loses_no_candidate(
    prompt: int, prices: list[tuple[Decimal, Decimal]], prefer: Preference, full: set[int], request: object
) -> None:
    names = [f"t{place}" for place in range(len(prices))]
    targets = [
        a_target(name, in_flight_most=1, rate_card=RateCard.of(prompt=one, cached_prompt=one, output=two))
        for name, (one, two) in zip(names, prices, strict=True)
    ]
    rule = Rule(name="r", when=None, use=tuple(names), prefer=prefer, weights=dict.fromkeys(names, 1))
    snapshot = a_snapshot(*targets, route=a_route(*names, rules=(rule,)))
    seen = {name: replace(snapshot.fleet[name], in_flight=int(place in full)) for place, name in enumerate(names)}
    snapshot = replace(snapshot, fleet=seen)
    facts = some_facts(prompt_tokens=prompt, request_id=str(request))
    first = decide(facts, snapshot)
    assert first == decide(facts, snapshot)
    assert [candidate.target for candidate in first.candidates] == names
    free = {name for place, name in enumerate(names) if place not in full}
    if isinstance(first, Refusal):
        assert not free
    else:
        assert set(first.order) == free
        if prefer is Preference.LISTED:
            assert list(first.order) == [name for name in names if name in free]


#: Predicted to begin after 100 ms, and to read a token a millisecond.
READS = TargetSeen(rate_card=CARD, predicted_ttft_ms=100.0, prefill_tokens_per_s=1000.0)


def test_a_prediction_counts_the_requests_own_prompt_and_the_plan_says_it() -> None:
    plan = decide(some_facts(prompt_tokens=900), a_snapshot(home=READS))
    assert isinstance(plan, Plan)
    assert plan.candidates[0].expected_ttft_ms == 1000.0
    assert plan.candidates[0].seen == READS


def test_a_prediction_without_a_rate_of_prefill_is_the_same_for_every_prompt() -> None:
    seen = TargetSeen(rate_card=CARD, predicted_ttft_ms=100.0)
    plan = decide(some_facts(prompt_tokens=900), a_snapshot(home=seen))
    assert isinstance(plan, Plan)
    assert plan.candidates[0].predicted_ttft_ms is None
    assert plan.candidates[0].expected_ttft_ms == 100.0


def test_the_fastest_for_a_long_prompt_is_another_than_for_a_short_one() -> None:
    route = a_route(
        "near", "strong", rules=(Rule(name="r", when=None, use=("near", "strong"), prefer=Preference.FASTEST),)
    )
    strong = TargetSeen(rate_card=CARD, predicted_ttft_ms=300.0, prefill_tokens_per_s=10_000.0)
    snapshot = a_snapshot(a_target("near"), a_target("strong"), route=route, near=READS, strong=strong)
    orders = [decide(some_facts(prompt_tokens=tokens), snapshot) for tokens in (10, 2000)]
    assert [plan.order for plan in orders if isinstance(plan, Plan)] == [("near", "strong"), ("strong", "near")]


def test_a_target_that_others_filled_has_no_more_room_than_the_share() -> None:
    target = a_target(in_flight_most=4)
    full = decide(some_facts(), a_snapshot(target, home=TargetSeen(rate_card=CARD, in_flight=1, others=3, share=1)))
    assert isinstance(full, Refusal)
    assert "1 requests are in flight beside 3 of others; its limit is 4, of which 1 are this" in full.message
    free = TargetSeen(rate_card=CARD, others=3, share=1)
    assert isinstance(decide(some_facts(), a_snapshot(target, home=free)), Plan)


def test_a_decision_on_predictions_replays_from_its_receipt() -> None:
    facts, snapshot = some_facts(prompt_tokens=900), a_snapshot(home=READS)
    decision = decide(facts, snapshot)
    at_us = int(snapshot.at.timestamp() * 1e6)
    assert replayed(facts, decision, at_us=at_us, policy=snapshot.policy) == decision
