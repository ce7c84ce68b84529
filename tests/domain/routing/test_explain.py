from __future__ import annotations

import json
from dataclasses import replace
from textwrap import dedent
from typing import Any, cast

from hypothesis import HealthCheck, given, settings

from app.domain.budget import BudgetSeen
from app.domain.money import Nanodollars
from app.domain.routing.decide import decide
from app.domain.routing.explain import explain, explained
from app.domain.routing.plan import Plan
from app.domain.routing.policy import Preference, Rule, Shadow, Spill
from app.domain.routing.snapshot import Snapshot, spill_key
from app.domain.target import Hosting, QueueSeen, TargetSeen
from tests.domain.routing.worlds import World, worlds
from tests.makers import CARD, CHEAP, a_plan, a_route, a_snapshot, a_target, some_facts


def a_spilling_world() -> Snapshot:
    rule = Rule(
        name="home while it is quick",
        when=None,
        use=("gpu-a", "gpu-b", "hosted"),
        prefer=Preference.BALANCED,
        per_second=Nanodollars(2_000_000),
        spill=Spill(predicted_ttft_ms=1500.0, most_per_hour=Nanodollars(5_000_000_000)),
        keeps_sessions=True,
        shadow=Shadow(target="mirror", share_ppm=1_000_000),
    )
    snapshot = a_snapshot(
        a_target("gpu-a"),
        a_target("gpu-b", in_flight_most=1),
        a_target("hosted", hosting=Hosting.MANAGED),
        a_target("mirror"),
        a_target("watched"),
        route=a_route("x", rules=(rule,), reads_fleet=("watched",), reads_budgets=("research",)),
        **{
            "gpu-a": TargetSeen(in_flight=9, rate_card=CHEAP, predicted_ttft_ms=4000.0),
            "gpu-b": TargetSeen(in_flight=1, rate_card=CHEAP),
            "hosted": TargetSeen(rate_card=CARD, predicted_ttft_ms=600.0),
            "watched": TargetSeen(in_flight=2, waiting=1),
        },
    )
    key = spill_key(model="chat", rule=rule.name)
    return replace(
        snapshot,
        budgets={"research": BudgetSeen(remaining_usd=375.0, used=0.25, days_left=8)},
        spill_spent={key: Nanodollars(1_250_000_000)},
    )


FACTS = some_facts(session="s", prefix_tokens=700, output_tokens_most=100)


def test_an_explanation_says_who_was_first_and_why_another_was_not_taken() -> None:
    snapshot = a_snapshot(
        a_target("home"),
        a_target("openai", credential="env:OPENAI_API_KEY"),
        openai=TargetSeen(rate_card=CARD, credential_present=False),
    )
    sentences = explain(decide(some_facts(), snapshot))
    assert sentences[0].startswith('Rule "the rule" matched')
    assert "home was the first choice" in sentences[1]
    assert sentences[2] == "openai was not taken: its credential env:OPENAI_API_KEY is not set."


def test_a_refusal_is_explained_with_every_reason() -> None:
    sentences = explain(decide(some_facts(), a_snapshot(a_target(rate_card=None), home=TargetSeen())))
    assert sentences[0] == 'Refused by rule "the rule".'
    assert "its price is not known" in sentences[1]


def test_what_was_seen_of_a_budget_is_told_without_exponents_and_endless_digits() -> None:
    world = a_spilling_world()
    world = replace(world, budgets={"research": BudgetSeen(remaining_usd=6e-05, used=0.5263863636363636, days_left=8)})
    told = " ".join(explain(decide(FACTS, world)))
    assert "Budget research was looked at: remaining_usd 0.00006, used 0.526386, days_left 8." in told


def test_every_step_of_a_decision_has_its_sentence() -> None:
    said = """\
        Rule "home while it is quick" matched; it prefers balanced; first choice: hosted.
        The request spills: our own machines are predicted to be slow.
        The conversation is kept with hosted.
        A copy goes to mirror; its answer is measured and thrown away.
        gpu-a stood by as fallback 1, behind all others (its first token is predicted after 4000 ms, over the rule's
          1500 ms): 9 in flight, first token predicted after 4000 ms, expected charge $0.000019,
          one request more there really costs $0.00, waiting for it is worth $0.008, $0.0065325 more than hosted.
        gpu-b was not taken: 1 requests are in flight and its limit is 1.
        hosted was the first choice: 0 in flight, first token predicted after 600 ms, expected charge $0.0002675
          with 700 prompt tokens cached, waiting for it is worth $0.0012.
        watched, which the rule does not use, was looked at: in_flight 2, circuit closed, waiting 1.
        mirror, which the rule does not use, was looked at: in_flight 0, circuit closed.
        Budget research was looked at: remaining_usd 375.0, used 0.25, days_left 8.
        The rule had spent $1.25 at managed targets in the hour before.
    """
    sentences = dedent(said).strip().replace("\n  ", " ").splitlines()
    assert list(explain(decide(FACTS, a_spilling_world()))) == sentences


def test_a_full_target_that_is_waited_for_says_how_long_its_queue_is() -> None:
    rule = Rule(name="r", when=None, use=("home",), waits=True)
    seen = TargetSeen(in_flight=2, rate_card=CARD, queue=QueueSeen(waiting=9, ahead=3, predicted_wait_ms=4500.0))
    snapshot = a_snapshot(a_target("home", in_flight_most=2), route=a_route("home", rules=(rule,)), home=seen)
    plan = decide(some_facts(), snapshot)
    assert "2 in flight, full, with 3 ahead in its queue and its turn predicted after 4500 ms" in explain(plan)[1]
    (candidate,) = cast(list[dict[str, Any]], explained(plan)["candidates"])
    assert candidate["seen"]["queue"] == {
        "waiting": 9, "ahead": 3, "predicted_wait_ms": 4500.0, "is_full": False
    }  # fmt: skip


def test_a_program_reads_the_same_as_plain_values() -> None:
    view = cast(dict[str, Any], explained(decide(FACTS, a_spilling_world())))
    assert json.loads(json.dumps(view)) == view
    assert (view["decision"], view["rule"], view["refused"]) == ("plan", "home while it is quick", None)
    assert (view["order"], view["home"], view["spilled"], view["shadow"]) == (
        ["hosted", "gpu-a"],
        "hosted",
        True,
        "mirror",
    )
    assert view["runner_up"] == {"target": "gpu-a", "more_usd": "0.0065325", "counts": "score"}
    roles = {one["target"]: (one["role"], one["filter"]) for one in view["candidates"]}
    assert roles == {"gpu-a": ("fallback", "spill"), "gpu-b": ("rejected", "room"), "hosted": ("first", None)}
    first = view["candidates"][2]
    assert (first["cached_tokens"], first["marginal_charge_usd"], first["waiting_charge_usd"]) == (
        700,
        "0.0002675",
        "0.0012",
    )
    assert first["seen"]["rate_card"] == CARD.digest
    assert view["witness"] == {
        "fleet": {
            "watched": {"in_flight": 2, "circuit": "closed", "waiting": 1},
            "mirror": {"in_flight": 0, "circuit": "closed"},
        },
        "budgets": {"research": {"remaining_usd": 375.0, "used": 0.25, "days_left": 8}},
        "spill_spent_usd": "1.25",
    }


def test_a_home_that_is_not_the_pick_is_named_as_such() -> None:
    plan = replace(a_plan("hosted", "gpu-a"), home="gpu-a")
    assert explain(plan)[1] == "The conversation would be kept with gpu-a, but hosted is ahead of it."


def test_a_fallback_that_costs_less_is_said_to() -> None:
    snapshot = a_snapshot(a_target("dear"), a_target("cheap"), cheap=TargetSeen(rate_card=CHEAP))
    plan = decide(some_facts(), snapshot)
    assert isinstance(plan, Plan)
    view = cast(dict[str, Any], explained(plan))
    assert view["runner_up"]["counts"] == "expected charge"
    assert view["runner_up"]["more_usd"].startswith("-0.00")
    assert explain(plan)[2].endswith(" less than dear.")


def test_one_target_alone_has_no_runner_up() -> None:
    assert explained(decide(some_facts(), a_snapshot()))["runner_up"] is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(world=worlds())
def test_every_decision_can_be_explained(world: World) -> None:
    decision = decide(world.facts, world.snapshot)
    view = cast(dict[str, Any], explained(decision))
    assert json.loads(json.dumps(view)) == view
    assert view["rule"] == decision.rule
    for one in decision.candidates:
        assert sum(sentence.startswith(f"{one.target} ") for sentence in view["sentences"]) == 1
