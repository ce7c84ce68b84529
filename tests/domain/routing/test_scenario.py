"""Scenarios (`app.domain.routing.scenario`)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.money import Nanodollars
from app.domain.pricing.price_list import DatedCard
from app.domain.pricing.rate_card import RateCard
from app.domain.routing.plan import Plan, RefusalReason
from app.domain.routing.policy import Policy, Preference, Rule, Shadow, Spill
from app.domain.routing.scenario import (
    NO_SHADOW,
    Expected,
    Scenario,
    fleet_at_rest,
    price_at_rest,
    run_scenario,
    run_scenarios,
    world_of,
)
from app.domain.target import Circuit, Hosting, Machine, TargetSeen
from tests.makers import CARD, CHEAP, NOON, a_policy, a_route, a_target, some_facts

HOME = a_target("home")
AWAY = a_target("away", hosting=Hosting.MANAGED, kind="openai")


def a_scenario(expected: Expected, **named: object) -> Scenario:
    values: dict[str, object] = {"name": "s", "facts": some_facts(), "at": NOON, "expected": expected, **named}
    return Scenario(**values)  # type: ignore[arg-type]


def ruled(**named: object) -> Policy:
    """One rule over both targets."""
    rule = Rule(name="the rule", when=None, use=("home", "away"), **named)  # type: ignore[arg-type]
    return a_policy(HOME, AWAY, route=a_route(rules=(rule,)))


RIGHT = (
    Expected(rule="the rule"),
    Expected(first="home"),
    Expected(order=("home", "away")),
    Expected(never=("elsewhere",)),
    Expected(spilled=False),
    Expected(shadow=NO_SHADOW),
)
WRONG = (
    (Expected(rule="other"), 'expected rule "other", but rule "the rule" matched'),
    (Expected(first="away"), 'expected "away" first, but rule "the rule" gives home, away'),
    (Expected(order=("away", "home")), 'expected the order away, home, but rule "the rule" gives home, away'),
    (
        Expected(refused=RefusalReason.NO_TARGET),
        'expected a refusal (no_target), but rule "the rule" gives home, away',
    ),
    (Expected(never=("away",)), '"away" must never be asked, but it is fallback 1'),
    (Expected(never=("home",)), '"home" must never be asked, but it is the first choice'),
    (Expected(spilled=True), 'expected a spill, but rule "the rule" gives home, away'),
    (Expected(shadow="away"), "expected the shadow away, but it is none"),
    (Expected(filters={"home": "room"}), 'expected the filter room to stop "home", but it passed every filter'),
    (
        Expected(filters={"gone": "room"}),
        'expected the filter room to stop "gone", but rule "the rule" matched, which does not use it',
    ),
)


@pytest.mark.parametrize("expected", RIGHT)
def test_what_comes_as_expected_passes(expected: Expected) -> None:
    assert run_scenario(a_scenario(expected), ruled()).passed


@pytest.mark.parametrize(("expected", "sentence"), WRONG)
def test_what_comes_otherwise_fails_with_a_sentence(expected: Expected, sentence: str) -> None:
    verdict = run_scenario(a_scenario(expected), ruled())
    assert not verdict.passed
    assert verdict.differences == (sentence,)


def test_a_first_choice_that_was_filtered_out_is_told_with_the_reason() -> None:
    scenario = a_scenario(Expected(first="home"), fleet={"home": TargetSeen(circuit=Circuit.OPEN, rate_card=CARD)})
    (sentence,) = run_scenario(scenario, ruled()).differences
    assert sentence.endswith("(home: its circuit is open after repeated failures)")


def test_a_refusal_satisfies_its_reason_only() -> None:
    closed = {name: TargetSeen(circuit=Circuit.OPEN, rate_card=CARD) for name in ("home", "away")}
    refused = Expected(refused=RefusalReason.NO_TARGET, filters={"home": "circuit", "away": "circuit"})
    assert run_scenario(a_scenario(refused, fleet=closed), ruled()).passed
    no_rule = run_scenario(a_scenario(Expected(refused=RefusalReason.NO_RULE), fleet=closed), ruled())
    assert "the request is refused (no_target)" in no_rule.differences[0]
    wrong = run_scenario(a_scenario(Expected(filters={"home": "room"}), fleet=closed), ruled())
    assert wrong.differences == ('expected the filter room to stop "home", but the filter circuit did',)


def test_a_request_that_no_rule_matches_is_a_refusal_with_no_rule() -> None:
    policy = a_policy(HOME, route=a_route(rules=()))
    assert run_scenario(a_scenario(Expected(refused=RefusalReason.NO_RULE)), policy).passed
    verdict = run_scenario(a_scenario(Expected(rule="the rule", spilled=True, first="home")), policy)
    assert verdict.differences[0] == 'expected rule "the rule", but no rule matched'
    assert len(verdict.differences) == 3


def test_a_spill_can_be_expected_and_says_which_filter_held_back() -> None:
    slow = {"home": TargetSeen(predicted_ttft_ms=4000.0, rate_card=CARD)}
    policy = ruled(spill=Spill(predicted_ttft_ms=1500.0))
    expected = Expected(first="away", spilled=True, filters={"home": "spill"})
    assert run_scenario(a_scenario(expected, fleet=slow), policy).passed
    assert not run_scenario(a_scenario(Expected(spilled=False), fleet=slow), policy).passed


def test_what_was_spilled_before_counts_for_every_rule_of_the_model() -> None:
    policy = ruled(spill=Spill(most_per_hour=Nanodollars(5)))
    expected = Expected(order=("home",), filters={"away": "spill_cap"})
    assert run_scenario(a_scenario(expected, spill_spent=Nanodollars(5)), policy).passed
    assert not run_scenario(a_scenario(expected, spill_spent=Nanodollars(4)), policy).passed
    assert not run_scenario(a_scenario(expected), policy).passed


def test_a_copy_counts_as_asking() -> None:
    rule = Rule(name="the rule", when=None, use=("home",), shadow=Shadow(target="away", share_ppm=1_000_000))
    policy = a_policy(HOME, AWAY, route=a_route(rules=(rule,)))
    assert run_scenario(a_scenario(Expected(shadow="away")), policy).passed
    verdict = run_scenario(a_scenario(Expected(never=("away",), shadow=NO_SHADOW)), policy)
    assert verdict.differences == (
        '"away" must never be asked, but it gets a copy of the request',
        "expected the shadow none, but it is away",
    )


def test_a_target_without_a_price_of_its_own_gets_one_from_its_machine() -> None:
    unmeasured = a_target("home", rate_card=None, machine=Machine(type="gpu", count=2))
    policy = replace(a_policy(unmeasured), machine_usd_per_hour={"gpu": Decimal("3.6")})
    card = price_at_rest(unmeasured, policy)
    assert card == RateCard.of(
        prompt=Decimal("0.2"), cached_prompt=Decimal(0), output=Decimal(1), origin="assumed speed"
    )
    assert fleet_at_rest(policy) == {"home": TargetSeen(rate_card=card)}
    assert price_at_rest(unmeasured, a_policy(unmeasured)) is None
    assert price_at_rest(HOME, policy) == CARD


def test_a_fleet_at_rest_filters_nobody_out() -> None:
    decision = run_scenario(a_scenario(Expected()), ruled()).decision
    assert isinstance(decision, Plan)
    assert all(candidate.rejected is None for candidate in decision.candidates)


@given(
    in_flight=st.integers(0, 100),
    circuit=st.sampled_from(list(Circuit)),
    ms=st.none() | st.floats(0, 10_000),
    prefer=st.sampled_from([Preference.LISTED, Preference.CHEAPEST, Preference.FASTEST]),
)
def test_expecting_what_was_decided_always_passes(
    in_flight: int, circuit: Circuit, ms: float | None, prefer: Preference
) -> None:
    policy = ruled(prefer=prefer, spill=Spill(predicted_ttft_ms=1500.0))
    fleet = {"home": TargetSeen(in_flight=in_flight, circuit=circuit, predicted_ttft_ms=ms, rate_card=CARD)}
    scenario = a_scenario(Expected(), fleet=fleet)
    decision = run_scenario(scenario, policy).decision
    assert isinstance(decision, Plan)
    expected = Expected(
        rule=decision.rule,
        first=decision.order[0],
        order=decision.order,
        spilled=decision.spilled,
        shadow=NO_SHADOW,
        filters={one.target: one.filter for one in decision.candidates if one.filter is not None},
    )
    assert run_scenario(replace(scenario, expected=expected), policy).passed
    assert not run_scenario(replace(scenario, expected=Expected(never=decision.order)), policy).passed


def test_all_of_them_run_in_their_order_in_the_worlds_that_they_describe() -> None:
    policy = ruled()
    first, second = a_scenario(Expected(first="home"), name="one"), a_scenario(Expected(first="away"), name="two")
    assert [(one.scenario.name, one.passed) for one in run_scenarios((first, second), policy)] == [
        ("one", True),
        ("two", False),
    ]
    assert world_of(first, policy).fleet == fleet_at_rest(policy)
    assert world_of(first, policy).at == NOON


def test_a_price_that_changes_is_that_of_the_scenarios_day() -> None:
    change = date(2026, 12, 1)
    cards = (DatedCard(card=CARD, valid_to=change), DatedCard(card=CHEAP, valid_from=change))
    policy = a_policy(a_target("home", rate_card=CHEAP, price_list=cards))
    scenario = a_scenario(Expected(first="home"))
    assert world_of(scenario, policy).fleet["home"].rate_card == CARD
    later = replace(scenario, at=NOON + timedelta(days=30))
    assert world_of(later, policy).fleet["home"].rate_card == CHEAP
