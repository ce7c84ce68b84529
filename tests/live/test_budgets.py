from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from app.domain.budget import Budget, Every, period
from app.domain.ledger.receipt import Receipt
from app.domain.money import Nanodollars
from app.domain.routing.policy import Policy
from app.live.budgets import SpentBudgets
from tests.makers import NOON, a_caller, a_policy, a_receipt, an_attempt, some_facts

USD = 1_000_000_000
RESEARCH = Budget(name="research", amount=Nanodollars(100 * USD), every=Every.DAY, team="research")


def _policy(*budgets: Budget) -> Policy:
    return replace(a_policy(), budgets={budget.name: budget for budget in budgets or (RESEARCH,)})


def _told(usd: int, *, budget: Budget = RESEARCH, at: datetime = NOON) -> SpentBudgets:
    budgets = SpentBudgets()
    begin, end = period(budget.every, at=at)
    budgets.told(budget, spent=Nanodollars(usd * USD), begin=begin, end=end, since=0)
    return budgets


def _receipt(usd: int, *, at: datetime = NOON, model: str = "chat", **caller: object) -> Receipt:
    facts = some_facts(model=model, caller=a_caller(**caller))
    at_us = int(at.timestamp()) * 1_000_000
    return a_receipt(an_attempt(charge=Nanodollars(usd * USD)), facts=facts, at_us=at_us)


def _remaining(budgets: SpentBudgets, *, at: datetime = NOON, budget: Budget = RESEARCH) -> float:
    return budgets.view(_policy(budget), at=at)[budget.name].remaining_usd


def test_what_the_books_say_and_what_was_settled_since_are_both_gone() -> None:
    budgets = _told(10)
    assert _remaining(budgets) == 90
    budgets.settled(_receipt(5))
    assert _remaining(budgets) == 85


def test_a_budget_that_nobody_has_looked_up_is_not_there() -> None:
    assert SpentBudgets().view(_policy(), at=NOON) == {}
    assert not SpentBudgets().counts


@pytest.mark.parametrize(
    ("named", "counts"),
    [
        ({"team": "research"}, True),
        ({"team": "legal"}, False),
        ({"cost_centre": "cc-1"}, True),
        ({"cost_centre": "cc-2"}, False),
        ({"key": "abcdefgh"}, True),
        ({"key": "another"}, False),
        ({"model": "chat"}, True),
        ({"model": "embed"}, False),
        ({"team": "research", "model": "embed"}, False),
        ({}, True),
    ],
)
def test_a_receipt_counts_for_the_budgets_it_belongs_to(named: dict[str, str], counts: bool) -> None:
    budget = Budget(name="b", amount=Nanodollars(100 * USD), every=Every.DAY, **named)
    budgets = _told(0, budget=budget)
    budgets.settled(_receipt(1))
    assert _remaining(budgets, budget=budget) == (99 if counts else 100)


def test_the_money_of_a_copy_for_a_shadow_is_money() -> None:
    budgets = _told(0)
    budgets.settled(replace(_receipt(1), shadow_of="r"))
    assert _remaining(budgets) == 99


def test_what_is_settled_while_the_books_are_asked_is_not_lost() -> None:
    budgets = _told(0)
    budgets.settled(_receipt(1))
    asked_at = budgets.since("research")
    budgets.settled(_receipt(2))
    begin, end = period(Every.DAY, at=NOON)
    budgets.told(RESEARCH, spent=Nanodollars(USD), begin=begin, end=end, since=asked_at)
    assert _remaining(budgets) == 97


def test_a_budget_begins_anew_with_its_period_whether_or_not_the_books_answer() -> None:
    budgets = _told(40)
    tomorrow = NOON + timedelta(days=1)
    assert _remaining(budgets, at=tomorrow) == 100
    budgets.settled(_receipt(3, at=tomorrow))
    budgets.settled(_receipt(50, at=NOON))
    assert _remaining(budgets, at=tomorrow) == 97


def test_days_left_change_at_midnight() -> None:
    monthly = replace(RESEARCH, every=Every.MONTH)
    budgets = _told(40, budget=monthly)
    today = budgets.view(_policy(monthly), at=NOON)["research"].days_left
    assert budgets.view(_policy(monthly), at=NOON + timedelta(days=1))["research"].days_left == today - 1


def test_a_larger_amount_keeps_what_is_spent_and_another_scope_does_not() -> None:
    budgets = _told(40)
    assert _remaining(budgets, budget=replace(RESEARCH, amount=Nanodollars(50 * USD))) == 10
    assert budgets.view(_policy(replace(RESEARCH, team="legal")), at=NOON) == {}


def test_a_policy_without_budgets_sees_none() -> None:
    assert _told(40).view(a_policy(), at=NOON) == {}
