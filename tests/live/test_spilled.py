from __future__ import annotations

from app.domain.ledger.receipt import Receipt
from app.domain.money import Nanodollars
from app.domain.routing.policy import Policy, Rule, Spill
from app.domain.routing.snapshot import spill_key
from app.domain.target import Hosting
from app.live.spilled import HOUR_S, STEP_S, Spilled
from tests.makers import a_plan, a_policy, a_receipt, a_route, a_target, an_attempt

KEY = spill_key(model="chat", rule="the rule")


def _policy(*, cap: int | None = 1_000_000, rule: str = "the rule") -> Policy:
    spill = Spill(most_per_hour=None if cap is None else Nanodollars(cap))
    ruled = Rule(name=rule, when=None, use=("home", "away"), spill=spill)
    return a_policy(a_target("home"), a_target("away"), route=a_route(rules=(ruled,)))


def _receipt(*charges: tuple[Hosting, int], rule: str = "the rule", shadow_of: str | None = None) -> Receipt:
    attempts = (an_attempt(hosting=hosting, charge=Nanodollars(charge)) for hosting, charge in charges)
    return a_receipt(*attempts, decision=a_plan(rule=rule), shadow_of=shadow_of)


def test_what_a_rule_spends_at_managed_targets_is_seen_by_its_key() -> None:
    spilled, policy = Spilled(), _policy()
    assert spilled.view(policy, at_s=0) == {}
    spilled.settled(_receipt((Hosting.SELF_HOSTED, 500), (Hosting.MANAGED, 70)), at_s=1)
    spilled.settled(_receipt((Hosting.MANAGED, 7)), at_s=2)
    assert spilled.view(policy, at_s=2) == {KEY: 77}


def test_it_is_forgotten_after_an_hour_and_a_minute_at_most_and_not_before_the_hour() -> None:
    spilled, policy = Spilled(), _policy()
    spilled.view(policy, at_s=0)
    spilled.settled(_receipt((Hosting.MANAGED, 7)), at_s=30)
    assert spilled.view(policy, at_s=30 + HOUR_S) == {KEY: 7}
    assert spilled.view(policy, at_s=30 + HOUR_S + STEP_S) == {}


def test_rules_without_a_cap_are_not_counted() -> None:
    spilled, policy = Spilled(), _policy(cap=None)
    spilled.view(policy, at_s=0)
    assert not spilled.counts
    spilled.settled(_receipt((Hosting.MANAGED, 7)), at_s=1)
    assert spilled.view(policy, at_s=1) == {}


def test_another_rules_money_and_a_shadows_are_not_the_rules() -> None:
    spilled, policy = Spilled(), _policy()
    spilled.view(policy, at_s=0)
    spilled.settled(_receipt((Hosting.MANAGED, 7), rule="another"), at_s=1)
    spilled.settled(_receipt((Hosting.MANAGED, 7), shadow_of="r"), at_s=1)
    assert spilled.view(policy, at_s=1) == {}


def test_a_new_policy_keeps_the_sums_of_rules_that_keep_their_name() -> None:
    spilled = Spilled()
    spilled.view(_policy(), at_s=0)
    spilled.settled(_receipt((Hosting.MANAGED, 7)), at_s=1)
    assert spilled.view(_policy(cap=5), at_s=2) == {KEY: 7}
    assert spilled.view(_policy(rule="another"), at_s=3) == {}


def test_a_view_does_not_change_after_it_was_taken() -> None:
    spilled, policy = Spilled(), _policy()
    spilled.view(policy, at_s=0)
    spilled.settled(_receipt((Hosting.MANAGED, 7)), at_s=1)
    before = spilled.view(policy, at_s=1)
    spilled.settled(_receipt((Hosting.MANAGED, 7)), at_s=1)
    assert before == {KEY: 7}
    assert spilled.view(policy, at_s=1) == {KEY: 14}
