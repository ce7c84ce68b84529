from __future__ import annotations

import pytest

from app.domain.routing.facts import Endpoint
from app.domain.routing.filters import (
    FILTERS,
    FILTERS_THAT_WAIT,
    context_fits,
    has_a_place_in_its_queue,
    has_its_turn_in_time,
    has_room,
    may_see_the_data,
    price_is_known,
    within_its_rate_limits,
)
from app.domain.target import Capability, Hosting, QueueSeen, TargetSeen
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


def test_classes_of_data_go_only_where_they_may() -> None:
    target = a_target(data_classes=frozenset({"public", "internal"}))
    assert may_see_the_data(some_facts(data_class="internal"), target, TargetSeen()) is None
    refused = may_see_the_data(some_facts(data_class="restricted"), target, TargetSeen())
    assert refused == 'a request of the data class "restricted" may not go there; it takes internal, public'
    assert may_see_the_data(some_facts(), target, TargetSeen()) is not None
    assert may_see_the_data(some_facts(data_class="restricted"), a_target(), TargetSeen()) is None


def test_a_minutes_limits_stop_the_request_that_would_break_them() -> None:
    target = a_target(requests_per_minute=10, tokens_per_minute=5000)
    facts = some_facts(prompt_tokens=900)
    assert within_its_rate_limits(facts, target, TargetSeen(requests_left=1, tokens_left=900)) is None
    assert within_its_rate_limits(facts, target, TargetSeen(requests_left=0)) == (
        "its 10 requests of this minute are used up"
    )
    assert within_its_rate_limits(facts, target, TargetSeen(tokens_left=899)) == (
        "899 of its 5000 tokens of this minute are left"
    )


@pytest.mark.parametrize(
    ("places", "most", "in_flight", "waiting", "passes"),
    [
        (None, None, 99, 99, True),
        (4, 2, 3, None, True),
        (4, 2, 5, None, True),
        (4, 2, 6, None, False),
        (4, 2, 1, 2, False),
        (4, 2, 1, 1, True),
        (4, 0, 3, 0, True),
        (4, 0, 4, 0, False),
        (None, 0, 50, None, True),
        (None, 3, 50, 3, False),
    ],
)
def test_a_queue_takes_as_many_as_it_may(
    places: int | None, most: int | None, in_flight: int, waiting: int | None, passes: bool
) -> None:
    target = a_target(in_flight_most=places, waiting_most=most)
    reason = has_a_place_in_its_queue(some_facts(), target, TargetSeen(in_flight=in_flight, waiting=waiting))
    assert (reason is None) is passes


def test_a_queue_without_a_place_for_this_team_is_none_to_wait_in() -> None:
    seen = TargetSeen(in_flight=2, queue=QueueSeen(waiting=4, ahead=4, is_full=True))
    reason = has_a_place_in_its_queue(some_facts(), a_target(in_flight_most=2), seen)
    assert reason == "4 requests wait for it, and its queue has no place for another of this team"
    free = TargetSeen(in_flight=2, queue=QueueSeen(waiting=4, ahead=0))
    assert has_a_place_in_its_queue(some_facts(), a_target(in_flight_most=2), free) is None


@pytest.mark.parametrize(("wait_ms", "is_late"), [(None, False), (5000.0, False), (5000.1, True)])
def test_a_turn_that_is_predicted_too_late_is_none(wait_ms: float | None, is_late: bool) -> None:
    seen = TargetSeen(queue=QueueSeen(waiting=9, ahead=3, predicted_wait_ms=wait_ms))
    reason = has_its_turn_in_time(seen, within_s=5.0)
    assert (reason is not None) == is_late
    if reason is not None:
        assert reason.startswith("3 requests are ahead in its queue")


def test_a_rule_that_waits_asks_everything_but_for_room() -> None:
    assert [name for name, _ in FILTERS if (name, _) not in FILTERS_THAT_WAIT] == ["room"]
