"""What one request leaves behind, the next one is decided on."""

from __future__ import annotations

from dataclasses import replace

from app.domain.budget import Budget, Every, Mode, period
from app.domain.money import Nanodollars
from app.domain.routing.plan import Plan, Refusal
from app.domain.routing.policy import Rule, Spill
from app.domain.target import Hosting
from app.flows.answer import answer
from app.providers.scripted import Script
from tests.flows.house import Caller, House, a_house, asked
from tests.makers import NOON, a_policy, a_route, a_target

BOTH = {"home": [Script()], "away": [Script()]}


async def _targets(house: House, count: int, *, stream: bool = False) -> list[str]:
    """Where so many requests went, one after the other."""
    for number in range(count):
        await answer(asked(house, request_id=f"r{number}", stream=stream), Caller(), house.gateway)
    return [call.target.name for call in house.provider.calls]


async def test_a_target_whose_minute_is_used_up_is_passed_over() -> None:
    limited = a_policy(a_target("home", requests_per_minute=2), a_target("away"))
    house = a_house(BOTH, policy=limited)
    assert await _targets(house, 4) == ["home", "home", "away", "away"]
    candidate = house.told.receipts[-1].decision.candidates[0]
    assert (candidate.filter, candidate.seen.requests_left) == ("rate", 0)


async def test_tokens_of_a_minute_count_what_was_really_used() -> None:
    # 900 tokens of prompt are estimated at the start; 11 and 2 are used, so that the minute has room for all.
    limited = a_policy(a_target("home", tokens_per_minute=1000), a_target("away"))
    house = a_house(BOTH, policy=limited)
    assert await _targets(house, 3) == ["home"] * 3
    assert house.gateway.snapshot(at_us=0).fleet["home"].tokens_left == 1000 - 3 * 13


async def test_a_streamed_answer_says_how_long_the_next_has_to_wait() -> None:
    house = a_house({"home": [Script(first_s=0.02)]})
    await _targets(house, 1)
    assert house.gateway.snapshot(at_us=0).fleet["home"].predicted_ttft_ms is None
    await _targets(house, 1, stream=True)
    seen_ms = house.gateway.snapshot(at_us=0).fleet["home"].predicted_ttft_ms
    assert seen_ms is not None
    assert seen_ms >= 20


async def test_a_rule_that_has_spent_its_cap_at_managed_targets_stays_home() -> None:
    spill = Spill(most_per_hour=Nanodollars(1))
    rule = Rule(name="the rule", when=None, use=("away", "home"), spill=spill)
    targets = (a_target("home"), a_target("away", hosting=Hosting.MANAGED))
    house = a_house(BOTH, policy=a_policy(*targets, route=a_route(rules=(rule,))))
    assert await _targets(house, 2) == ["away", "home"]
    second = house.told.receipts[-1].decision
    assert isinstance(second, Plan | Refusal)
    assert second.candidates[0].filter == "spill_cap"
    assert second.witness.spill_spent == house.told.receipts[0].charge


async def test_what_is_settled_counts_for_the_budgets_that_are_known() -> None:
    budget = Budget(name="research", amount=Nanodollars(10**9), every=Every.DAY, team="research", mode=Mode.WATCH)
    house = a_house(policy=replace(a_policy(), budgets={"research": budget}))
    begin, end = period(budget.every, at=NOON)
    house.gateway.budgets.told(budget, spent=Nanodollars(0), begin=begin, end=end, since=0)
    at_us = int(NOON.timestamp()) * 1_000_000
    await answer(replace(asked(house), at_us=at_us), Caller(), house.gateway)
    (receipt,) = house.told.receipts
    assert house.gateway.snapshot(at_us=at_us).budgets["research"].used == receipt.charge / 10**9
