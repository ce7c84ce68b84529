"""What holds of every decision, whatever the policy, the fleet and the request."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.routing.decide import decide
from app.domain.routing.plan import Plan, Refusal, RefusalReason
from app.domain.routing.policy import Preference
from app.domain.target import Hosting
from tests.domain.routing.worlds import World, worlds

many = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SCORED = (Preference.CHEAPEST, Preference.FASTEST, Preference.BALANCED)


@many
@given(world=worlds())
def test_the_same_question_has_the_same_answer(world: World) -> None:
    assert decide(world.facts, world.snapshot) == decide(replace(world.facts), replace(world.snapshot))


@many
@given(world=worlds())
def test_every_target_of_the_rule_is_rejected_or_in_its_place(world: World) -> None:
    decision = decide(world.facts, world.snapshot)
    if decision.rule is None:
        assert isinstance(decision, Refusal)
        assert decision.reason is RefusalReason.NO_RULE
        assert decision.candidates == ()
        return
    rule = next(one for one in world.snapshot.policy.routes["chat"].rules if one.name == decision.rule)
    assert tuple(one.target for one in decision.candidates) == rule.use
    passed = {one.target for one in decision.candidates if one.rejected is None}
    assert isinstance(decision, Plan) == bool(passed)
    for one in decision.candidates:
        assert (one.rejected is None) == (one.place is not None)
        assert (one.filter is not None) == (one.rejected is not None or one.held_back is not None)
    if isinstance(decision, Plan):
        assert sorted(decision.order) == sorted(passed)
        assert all(decision.order[one.place] == one.target for one in decision.candidates if one.place is not None)


@many
@given(world=worlds())
def test_whoever_is_held_back_comes_after_all_who_are_not(world: World) -> None:
    decision = decide(world.facts, world.snapshot)
    placed = sorted((one for one in decision.candidates if one.place is not None), key=lambda one: one.place or 0)
    held_back = [one.held_back is not None for one in placed]
    assert held_back == sorted(held_back)
    if isinstance(decision, Plan) and decision.spilled:
        policy = world.snapshot.policy
        assert policy.targets[decision.order[0]].hosting is Hosting.MANAGED
        assert any(held_back)


@many
@given(world=worlds())
def test_a_conversation_has_a_home_exactly_where_rule_and_caller_ask_for_one(world: World) -> None:
    decision = decide(world.facts, world.snapshot)
    if not isinstance(decision, Plan):
        return
    rule = next(one for one in world.snapshot.policy.routes["chat"].rules if one.name == decision.rule)
    assert (decision.home is not None) == (rule.keeps_sessions and bool(world.facts.session))
    warm = {one.target: one.cached_tokens for one in decision.candidates if one.cached_tokens}
    assert warm in ({}, {decision.home: world.facts.prefix_tokens})
    if decision.home is not None and rule.prefer in {Preference.LISTED, Preference.WEIGHTED}:
        assert decision.order[0] == decision.home


@many
@given(world=worlds())
def test_a_copy_never_goes_where_the_request_itself_goes_first(world: World) -> None:
    decision = decide(world.facts, world.snapshot)
    assert not (isinstance(decision, Plan) and decision.shadow == decision.order[0])


@pytest.mark.parametrize("prefer", [*SCORED, Preference.WEIGHTED])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(chosen=st.data())
def test_the_order_of_the_list_says_nothing_where_another_order_is_preferred(
    prefer: Preference, chosen: st.DataObject
) -> None:
    world = chosen.draw(worlds(prefer=prefer))
    decision = decide(world.facts, world.snapshot)
    policy = world.snapshot.policy
    route = policy.routes["chat"]
    turned = tuple(
        replace(rule, use=tuple(chosen.draw(st.permutations(rule.use)))) if rule.name == decision.rule else rule
        for rule in route.rules
    )
    other = replace(world.snapshot, policy=replace(policy, routes={"chat": replace(route, rules=turned)}))
    again = decide(world.facts, other)
    assert isinstance(again, Plan) == isinstance(decision, Plan)
    if isinstance(decision, Plan) and isinstance(again, Plan):
        assert again.order == decision.order
        assert (again.home, again.spilled, again.shadow) == (decision.home, decision.spilled, decision.shadow)
        assert set(again.candidates) == set(decision.candidates)


@pytest.mark.parametrize("prefer", SCORED)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(chosen=st.data())
def test_no_one_stands_before_a_better_score_of_its_kind(prefer: Preference, chosen: st.DataObject) -> None:
    world = chosen.draw(worlds(prefer=prefer))
    decision = decide(world.facts, world.snapshot)
    placed = sorted((one for one in decision.candidates if one.place is not None), key=lambda one: one.place or 0)
    for one, following in pairwise(placed):
        if (one.held_back is None) == (following.held_back is None):
            if prefer is Preference.FASTEST:
                ms = [seen.seen.predicted_ttft_ms for seen in (one, following)]
                assert ms[1] is None or (ms[0] is not None and ms[0] <= ms[1])
            else:
                assert one.marginal_charge is not None
                assert following.marginal_charge is not None
                here = one.marginal_charge + (one.waiting_charge or 0)
                assert here <= following.marginal_charge + (following.waiting_charge or 0)
