from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings

from app.domain.routing.decide import decide
from app.domain.routing.plan import Plan
from app.domain.routing.policy import Preference, Rule, Shadow, Spill
from app.domain.routing.replay import replayed, snapshot_then
from app.domain.routing.snapshot import spill_key
from app.domain.target import Hosting, TargetSeen
from tests.domain.pricing.lists import GPT_5_5
from tests.domain.routing.worlds import Says, World, policies, worlds
from tests.makers import CARD, NOON, a_policy, a_route, a_snapshot, a_target, some_facts

NOON_US = int(NOON.timestamp()) * 1_000_000


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(world=worlds())
def test_a_decision_replays_from_itself_and_the_policy_alone(world: World) -> None:
    decision = decide(world.facts, world.snapshot)
    again = replayed(world.facts, decision, at_us=world.at_us, policy=world.snapshot.policy)
    assert again == decision


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(world=worlds(), other=policies())
def test_another_policy_can_be_asked_what_it_would_have_done_then(world: World, other: object) -> None:
    decision = decide(world.facts, world.snapshot)
    assert replayed(world.facts, decision, at_us=world.at_us, policy=other) is not None  # type: ignore[arg-type]


def test_a_policy_without_the_model_has_nothing_to_say() -> None:
    facts = some_facts()
    decision = decide(facts, a_snapshot())
    other = a_policy(route=a_route("home", model="another"))
    assert replayed(facts, decision, at_us=NOON_US, policy=other) is None


def test_a_world_that_was_seen_otherwise_gives_another_decision() -> None:
    """The replay really rests on what the decision carries."""
    route = a_route("a", "b", rules=(Rule(name="r", when=None, use=("a", "b"), prefer=Preference.CHEAPEST),))
    snapshot = a_snapshot(a_target("a"), a_target("b", in_flight_most=1), route=route)
    decision = decide(some_facts(), snapshot)
    full = replace(snapshot, fleet={**snapshot.fleet, "b": TargetSeen(in_flight=1, rate_card=CARD)})
    assert decide(some_facts(), full) != decision


def test_what_a_condition_read_of_a_target_that_its_rule_does_not_use_is_kept() -> None:
    busy = Rule(name="busy", when=Says("fleet", "b", "in_flight", 5), use=("a",))
    rest = Rule(name="rest", when=None, use=("a",))
    route = a_route("a", rules=(busy, rest), reads_fleet=("b",))
    snapshot = a_snapshot(a_target("a"), a_target("b"), route=route, b=TargetSeen(in_flight=5))
    decision = decide(some_facts(), snapshot)
    assert decision.rule == "busy"
    assert decision.witness.fleet == {"b": TargetSeen(in_flight=5)}
    assert replayed(some_facts(), decision, at_us=NOON_US, policy=snapshot.policy) == decision


def test_what_no_condition_reads_is_not_kept_twice() -> None:
    decision = decide(some_facts(), a_snapshot(a_target("a"), a_target("b"), route=a_route("a")))
    assert decision.witness.fleet == {}


def test_the_hours_spill_and_the_shadow_are_kept_for_the_replay() -> None:
    rule = Rule(
        name="r",
        when=None,
        use=("a",),
        spill=Spill(most_per_hour=1),  # type: ignore[arg-type]
        shadow=Shadow(target="b", share_ppm=1_000_000),
    )
    snapshot = a_snapshot(a_target("a", hosting=Hosting.MANAGED), a_target("b"), route=a_route("a", rules=(rule,)))
    snapshot = replace(snapshot, spill_spent={spill_key(model="chat", rule="r"): 0})
    decision = decide(some_facts(), snapshot)
    assert isinstance(decision, Plan)
    assert decision.shadow == "b"
    then = snapshot_then(some_facts(), decision, at_us=NOON_US, policy=snapshot.policy)
    assert then.spill_spent == {"chat/r": 0}
    assert then.fleet == snapshot.fleet
    assert then.at == NOON
    assert decide(some_facts(), then) == decision


def test_a_decision_on_a_whole_price_list_keeps_what_such_a_prompt_cost_and_replays_from_it() -> None:
    rule = Rule(name="r", when=None, use=("a", "b"), prefer=Preference.CHEAPEST)
    route = a_route("a", "b", rules=(rule,), reads_fleet=("c",))
    hosted = [a_target(name, hosting=Hosting.MANAGED, rate_card=GPT_5_5) for name in ("a", "b", "c")]
    snapshot = a_snapshot(*hosted, route=route)
    for tokens, usd in ((272_000, 5), (272_001, 10)):
        facts = some_facts(prompt_tokens=tokens)
        decision = decide(facts, snapshot)
        seen = [candidate.seen for candidate in decision.candidates] + [decision.witness.fleet["c"]]
        cards = [each.rate_card for each in seen if each is not None]
        assert [(card and card.prompt, card and card.terms, card and card.digest) for card in cards] == [
            (usd, None, GPT_5_5.digest)
        ] * 3
        assert replayed(facts, decision, at_us=NOON_US, policy=snapshot.policy) == decision
