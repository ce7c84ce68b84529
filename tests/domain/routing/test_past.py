"""`app.domain.routing.past`: what changes once a part of a budget is spent."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from app.domain.budget import Budget, BudgetSeen, Every, PastStep
from app.domain.money import Nanodollars
from app.domain.pricing.rate_card import RateCard
from app.domain.routing.decide import decide
from app.domain.routing.past import steps_reached
from app.domain.routing.plan import Plan, Refusal
from app.domain.routing.snapshot import Snapshot
from tests.makers import CHEAP, a_caller, a_snapshot, a_target, some_facts

DEAR = RateCard.of(prompt=Decimal(5), cached_prompt=Decimal(5), output=Decimal(15))
STEPS = (
    PastStep(from_ppm=500_000, prefer_cheapest=True),
    PastStep(from_ppm=1_000_000, only=("cheap",)),
)
BUDGET = Budget(name="research", amount=Nanodollars(10**9), every=Every.MONTH, team="research", past=STEPS)


def world(used: float | None, budget: Budget = BUDGET) -> Snapshot:
    snapshot = a_snapshot(a_target("dear", rate_card=DEAR), a_target("cheap", rate_card=CHEAP))
    policy = replace(snapshot.policy, budgets={budget.name: budget}, degrading=(budget,))
    seen = {} if used is None else {budget.name: BudgetSeen(remaining_usd=1.0, used=used, days_left=3)}
    return replace(snapshot, policy=policy, budgets=seen)


@pytest.mark.parametrize(
    ("used", "order"),
    [
        (None, ("dear", "cheap")),
        (0.49, ("dear", "cheap")),
        (0.5, ("cheap", "dear")),
        (0.99, ("cheap", "dear")),
        (1.0, ("cheap",)),
        (1.7, ("cheap",)),
    ],
)
def test_each_step_replaces_the_one_before(used: float | None, order: tuple[str, ...]) -> None:
    plan = decide(some_facts(), world(used))
    assert isinstance(plan, Plan)
    assert plan.order == order
    assert (plan.past is None) == (used is None or used < 0.5)


def test_who_spends_nothing_of_the_budget_feels_no_step() -> None:
    plan = decide(some_facts(caller=a_caller(team="sales")), world(1.0))
    assert isinstance(plan, Plan)
    assert (plan.order, plan.past, dict(plan.witness.budgets)) == (("dear", "cheap"), None, {})


def test_the_plan_names_budget_and_step_and_the_filter() -> None:
    plan = decide(some_facts(), world(1.0))
    assert isinstance(plan, Plan)
    assert plan.past == 'the budget "research" is past 1 of its amount'
    assert [(each.target, each.filter) for each in plan.candidates] == [("dear", "budget"), ("cheap", None)]


def test_with_none_of_its_targets_left_the_request_is_refused_with_the_reason() -> None:
    budget = replace(BUDGET, past=(PastStep(from_ppm=900_000, only=("elsewhere",)),))
    refusal = decide(some_facts(), world(0.95, budget))
    assert isinstance(refusal, Refusal)
    assert 'the budget "research" is past 0.9 of its amount: only elsewhere may serve' in refusal.message


def test_what_was_seen_of_the_budget_is_in_the_plan_so_that_it_replays() -> None:
    snapshot = world(0.6)
    plan = decide(some_facts(), snapshot)
    assert decide(some_facts(), replace(snapshot, budgets=plan.witness.budgets)) == plan


def test_a_budget_that_nobody_has_looked_up_has_reached_no_step() -> None:
    assert steps_reached((BUDGET,), some_facts(), {}) == []
