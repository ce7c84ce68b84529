from __future__ import annotations

import pytest

from app.domain.routing.facts import Endpoint
from app.domain.routing.filters import FILTERS, context_fits, has_room, price_is_known
from app.domain.target import Capability, Hosting, TargetSeen
from tests.makers import CARD, a_target, some_facts


@pytest.mark.parametrize(("name", "ask"), FILTERS, ids=[name for name, _ in FILTERS])
def test_a_target_with_everything_passes_every_filter(name: str, ask: object) -> None:
    target = a_target(can=frozenset(Capability), context_tokens=10_000, in_flight_most=2)
    facts = some_facts(endpoint=Endpoint.COMPLETIONS, has_tools=True, has_images=True, json_schema=True)
    assert ask(facts, target, TargetSeen(in_flight=1, rate_card=CARD)) is None  # type: ignore[operator]


def test_a_prompt_that_just_fits_is_tried() -> None:
    target = a_target(context_tokens=900)
    assert context_fits(some_facts(prompt_tokens=900), target, TargetSeen()) is None
    assert context_fits(some_facts(prompt_tokens=901), target, TargetSeen()) is not None


def test_the_last_place_is_given_and_no_more() -> None:
    target = a_target(in_flight_most=2)
    assert has_room(some_facts(), target, TargetSeen(in_flight=1)) is None
    assert has_room(some_facts(), target, TargetSeen(in_flight=2)) is not None


def test_an_unknown_price_says_what_to_do_for_whom() -> None:
    ours = price_is_known(some_facts(), a_target(), TargetSeen())
    theirs = price_is_known(some_facts(), a_target(hosting=Hosting.MANAGED), TargetSeen())
    assert ours is not None
    assert "measure" in ours
    assert theirs is not None
    assert "policy" in theirs
