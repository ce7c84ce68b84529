from __future__ import annotations

from decimal import Decimal

import pytest

from app.domain.money import Nanodollars
from app.domain.pricing.charge import charge
from app.domain.pricing.rate_card import RateCard
from app.domain.routing.decide import decide
from app.domain.routing.plan import Candidate, Plan
from app.domain.routing.policy import Preference, Rule, Spill
from app.domain.routing.ranking import Contender, home_of, ranked
from app.domain.routing.snapshot import Snapshot
from app.domain.target import Hosting, Target, TargetSeen
from app.domain.usage import Usage
from tests.makers import CARD, CHEAP, a_route, a_snapshot, a_target, some_facts

DEAR = RateCard.of(prompt=Decimal(5), cached_prompt=Decimal("0.5"), output=Decimal(20))


def a_rule(*use: str, prefer: Preference, **named: object) -> Rule:
    values: dict[str, object] = {"name": "r", "when": None, "use": use, "prefer": prefer, **named}
    return Rule(**values)  # type: ignore[arg-type]


def a_world(*targets: Target, rule: Rule, **seen: TargetSeen) -> Snapshot:
    return a_snapshot(*targets, route=a_route("a", rules=(rule,)), **seen)


def a_seller(name: str, card: RateCard = CARD) -> Target:
    return a_target(name, hosting=Hosting.MANAGED, rate_card=card)


def planned(snapshot: Snapshot, **facts: object) -> Plan:
    plan = decide(some_facts(**facts), snapshot)
    assert isinstance(plan, Plan)
    return plan


def candidate(plan: Plan, name: str) -> Candidate:
    return next(one for one in plan.candidates if one.target == name)


def test_money_is_traded_for_time_at_the_rate_of_the_rule() -> None:
    """One second costs 0.002 USD: a hosted answer of about 0.0012 USD is worth 2 s of waiting, and not 0.1 s."""
    for ms, first in ((2000.0, "hosted"), (100.0, "ours")):
        rule = a_rule("ours", "hosted", prefer=Preference.BALANCED, per_second=Nanodollars(2_000_000))
        plan = planned(
            a_world(
                a_target("ours"),
                a_seller("hosted"),
                rule=rule,
                ours=TargetSeen(rate_card=CARD, predicted_ttft_ms=ms),
                hosted=TargetSeen(rate_card=CARD, predicted_ttft_ms=80.0),
            ),
            output_tokens_most=500,
        )
        assert plan.order[0] == first
        assert candidate(plan, "ours").waiting_charge == ms * 2_000
        assert candidate(plan, "ours").marginal_charge == 0
        assert candidate(plan, "hosted").marginal_charge == 900 * 250 + 500 * 2_000


def test_a_speed_that_is_not_known_counts_as_the_slowest_that_is() -> None:
    rule = a_rule("a", "b", "c", prefer=Preference.BALANCED, per_second=Nanodollars(1_000_000))
    plan = planned(
        a_world(
            *map(a_seller, "abc"),
            rule=rule,
            a=TargetSeen(rate_card=CARD),
            b=TargetSeen(rate_card=CARD, predicted_ttft_ms=300.0),
            c=TargetSeen(rate_card=CARD, predicted_ttft_ms=700.0),
        )
    )
    assert plan.order == ("b", "a", "c")
    assert candidate(plan, "a").waiting_charge == candidate(plan, "c").waiting_charge == 700_000


def test_the_slowness_of_one_that_stands_back_is_not_laid_on_one_whose_speed_is_not_known() -> None:
    rule = a_rule(
        "a",
        "b",
        "hosted",
        prefer=Preference.BALANCED,
        per_second=Nanodollars(1_000_000_000),
        spill=Spill(predicted_ttft_ms=1000.0),
    )
    plan = planned(
        a_world(
            a_target("a"),
            a_target("b"),
            a_seller("hosted"),
            rule=rule,
            a=TargetSeen(rate_card=CARD, predicted_ttft_ms=9000.0),
            b=TargetSeen(rate_card=CARD),
            hosted=TargetSeen(rate_card=CARD, predicted_ttft_ms=500.0),
        )
    )
    assert plan.order == ("b", "hosted", "a")
    assert not plan.spilled


def test_fastest_asks_the_shortest_predicted_time_first_and_the_unknown_last() -> None:
    rule = a_rule("a", "b", "c", prefer=Preference.FASTEST)
    plan = planned(
        a_world(
            *map(a_target, "abc"),
            rule=rule,
            b=TargetSeen(rate_card=CARD, predicted_ttft_ms=90.0),
            c=TargetSeen(rate_card=CARD, predicted_ttft_ms=40.0),
        )
    )
    assert plan.order == ("c", "b", "a")


def test_equal_speeds_are_told_apart_by_what_a_request_costs() -> None:
    rule = a_rule("a", "b", prefer=Preference.FASTEST)
    plan = planned(a_world(a_seller("a", DEAR), a_seller("b", CHEAP), rule=rule))
    assert plan.order == ("b", "a")


def test_our_own_machine_is_the_cheapest_until_it_is_nearly_full() -> None:
    rule = a_rule("hosted", "ours", prefer=Preference.CHEAPEST)
    for in_flight, marginal in ((0, 0), (8, 0), (9, 1_012_500)):
        plan = planned(
            a_world(
                a_seller("hosted"),
                a_target("ours", in_flight_most=10),
                rule=rule,
                ours=TargetSeen(rate_card=CARD, in_flight=in_flight),
            ),
            output_tokens_most=900,
        )
        assert candidate(plan, "ours").marginal_charge == marginal
        assert plan.order[0] == "ours"


def test_a_machine_that_is_full_costs_what_it_displaces_and_its_own_energy() -> None:
    rule = a_rule("hosted", "ours", prefer=Preference.CHEAPEST)
    plan = planned(
        a_world(
            a_seller("hosted", CHEAP),
            a_target("ours", marginal_ppm=100_000),
            rule=rule,
            ours=TargetSeen(rate_card=CARD, saturation=1.2),
        )
    )
    theirs, ours = candidate(plan, "hosted"), candidate(plan, "ours")
    assert theirs.expected_charge is not None
    assert ours.expected_charge is not None
    assert ours.marginal_charge == theirs.expected_charge + ours.expected_charge // 10
    assert plan.order == ("hosted", "ours")


def test_a_warm_prefix_is_counted_where_the_conversation_lives_and_nowhere_else() -> None:
    rule = a_rule("a", "b", prefer=Preference.CHEAPEST, keeps_sessions=True)
    snapshot = a_world(a_seller("a"), a_seller("b"), rule=rule)
    plan = planned(snapshot, session="s", prefix_tokens=800, output_tokens_most=10)
    home = plan.order[0]
    assert plan.home == home
    other = plan.order[1]
    assert candidate(plan, home).cached_tokens == 800
    assert candidate(plan, other).cached_tokens == 0
    warm = charge(usage=Usage(prompt=900, output=10, cached=800), price=CARD)
    assert candidate(plan, home).expected_charge == warm
    assert candidate(plan, other).expected_charge == charge(usage=Usage(prompt=900, output=10), price=CARD)


def test_a_home_on_our_own_machines_is_preferred_to_a_sellers() -> None:
    rule = a_rule("hosted", "ours", prefer=Preference.CHEAPEST, keeps_sessions=True)
    snapshot = a_world(a_seller("hosted"), a_target("ours"), rule=rule)
    assert {planned(snapshot, session=f"s{n}").home for n in range(20)} == {"ours"}


def test_a_listed_rule_keeps_conversations_among_those_that_its_list_begins_with() -> None:
    rule = a_rule("a", "b", "hosted", "c", prefer=Preference.LISTED, keeps_sessions=True)
    snapshot = a_world(a_target("a"), a_target("b"), a_seller("hosted"), a_target("c"), rule=rule)
    plans = [planned(snapshot, session=f"s{n}") for n in range(40)]
    assert {plan.order for plan in plans} == {("a", "b", "hosted", "c"), ("b", "a", "hosted", "c")}
    assert all(plan.home == plan.order[0] for plan in plans)


def test_a_conversation_is_drawn_for_once() -> None:
    weights = {"a": 60, "b": 40}
    rule = a_rule("a", "b", prefer=Preference.WEIGHTED, weights=weights, keeps_sessions=True)
    snapshot = a_world(a_target("a"), a_target("b"), rule=rule)
    firsts = {
        session: {planned(snapshot, session=session, request_id=f"{session}/{n}").order[0] for n in range(10)}
        for session in (f"s{n}" for n in range(60))
    }
    assert all(len(first) == 1 for first in firsts.values())
    assert {name for first in firsts.values() for name in first} == {"a", "b"}


@pytest.mark.parametrize("prefer", Preference)
def test_a_caller_who_names_no_conversation_has_no_home(prefer: Preference) -> None:
    rule = a_rule("a", "b", prefer=prefer, keeps_sessions=True, weights={"a": 1, "b": 1})
    contenders = [Contender(a_target(name), TargetSeen(rate_card=CARD)) for name in "ab"]
    for contender in contenders:
        contender.expected_charge = Nanodollars(5)
    assert home_of(contenders, rule=rule, facts=some_facts(session="")) is None
    assert sorted(ranked(contenders, rule=rule, facts=some_facts(), home=None)) == ["a", "b"]


def test_where_all_stand_back_a_conversation_still_has_a_home() -> None:
    rule = a_rule("a", "b", prefer=Preference.LISTED, keeps_sessions=True, spill=Spill(predicted_ttft_ms=10.0))
    slow = TargetSeen(rate_card=CARD, predicted_ttft_ms=500.0)
    plan = planned(a_world(a_target("a"), a_target("b"), rule=rule, a=slow, b=slow), session="s")
    assert plan.home == plan.order[0]
    assert not plan.spilled
