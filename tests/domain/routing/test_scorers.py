from __future__ import annotations

from app.domain.routing.scorers import expected_charge, weighted_draw
from tests.makers import CARD, a_route, some_facts


def test_an_expected_charge_assumes_the_callers_cap_but_never_more_than_the_routes_default() -> None:
    route = a_route("home", output_tokens_default=100)
    short = expected_charge(facts=some_facts(output_tokens_most=10), route=route, price=CARD)
    long = expected_charge(facts=some_facts(output_tokens_most=10_000), route=route, price=CARD)
    unsaid = expected_charge(facts=some_facts(), route=route, price=CARD)
    assert short < long == unsaid


def test_each_choice_is_charged() -> None:
    route = a_route("home")
    one = expected_charge(facts=some_facts(prompt_tokens=0), route=route, price=CARD)
    three = expected_charge(facts=some_facts(prompt_tokens=0, n=3), route=route, price=CARD)
    assert three == 3 * one


def test_a_draw_is_a_function_of_the_request_id_alone() -> None:
    weights = {"a": 3, "b": 2, "c": 1}
    draws = {weighted_draw(["a", "b", "c"], weights=weights, drawn_by=f"r{n}") for n in range(200)}
    again = {weighted_draw(["c", "a", "b"], weights=weights, drawn_by=f"r{n}") for n in range(200)}
    assert draws == again
    assert len(draws) == 6
