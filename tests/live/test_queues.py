"""`app.live.queues`: who may be sent, who has to go, and what a request finds of it beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from app.domain.routing.policy import Policy
from app.domain.target import Circuit, QueueSeen, Target, TargetSeen
from app.live.queues import WAITING_MOST, Queues, Ticket, Turned
from tests.makers import a_policy, a_target

HOME = a_target("home", in_flight_most=2, waiting_most=4)
FULL = TargetSeen(in_flight=2)
ROOM = TargetSeen(in_flight=1)


def _ticket(
    queues: Queues,
    team: str = "research",
    *,
    target: Target = HOME,
    cost: float = 100,
    prompt_tokens: int = 10,
    until_s: float = 30.0,
) -> Ticket:
    ticket = Ticket(target, team=team, prompt_tokens=prompt_tokens, until_s=until_s, wake=lambda: None)
    queues.enter(ticket, target, cost=cost)
    return ticket


def _looked(queues: Queues, seen: TargetSeen, *, at_s: float = 0.0, pauses: Mapping[str, float] | None = None) -> None:
    queues.look({"home": seen}, {"home": HOME}, at_s=at_s, pauses=pauses or {})


def test_there_is_room_below_the_limit_and_below_a_share_of_it() -> None:
    queues = Queues()
    assert queues.has_room(HOME, ROOM, prompt_tokens=10)
    assert not queues.has_room(HOME, FULL, prompt_tokens=10)
    assert not queues.has_room(HOME, replace(ROOM, share=1), prompt_tokens=10)
    assert queues.has_room(replace(HOME, in_flight_most=None), TargetSeen(in_flight=1_000), prompt_tokens=10)


def test_whoever_waits_comes_before_whoever_comes_though_there_is_room() -> None:
    queues = Queues()
    first = _ticket(queues)
    assert not queues.has_room(HOME, ROOM, prompt_tokens=10)
    _looked(queues, ROOM)
    assert first.turned is Turned.SENT
    assert not queues.has_room(HOME, ROOM, prompt_tokens=10), "its place is reserved"
    queues.leave(first)
    assert queues.has_room(HOME, ROOM, prompt_tokens=10)
    assert queues.waiting == 0


def test_so_many_are_sent_as_there_is_room_for_and_no_more() -> None:
    queues = Queues()
    tickets = [_ticket(queues) for _ in range(4)]
    _looked(queues, TargetSeen(in_flight=0))
    assert [ticket.turned for ticket in tickets] == [Turned.SENT, Turned.SENT, None, None]
    _looked(queues, TargetSeen(in_flight=0))
    assert tickets[2].turned is None
    assert queues.lengths() == {"home": 2}


def test_an_answer_of_a_full_house_goes_to_the_team_that_has_had_less() -> None:
    queues = Queues()
    flood = [_ticket(queues, "flood") for _ in range(3)]
    _looked(queues, ROOM)
    queues.leave(flood[0])
    single = _ticket(queues, "single")
    _looked(queues, ROOM)
    assert single.turned is Turned.SENT
    assert flood[1].turned is None


def test_a_full_queue_refuses_the_team_that_fills_it_and_makes_room_for_another() -> None:
    queues = Queues()
    flood = [_ticket(queues, "flood") for _ in range(4)]
    refused = _ticket(queues, "flood")
    assert (refused.turned, refused.why) == (Turned.FULL, "4 requests wait for it and its limit is 4")
    single = _ticket(queues, "single")
    assert single.turned is None
    assert [ticket.turned for ticket in flood] == [None, None, None, Turned.FULL]
    assert "most of them of this team" in flood[3].why
    assert queues.waiting == 4


def test_teams_with_equal_parts_of_a_full_queue_drive_nobody_out() -> None:
    queues = Queues()
    for team in ("a", "a", "b", "b"):
        _ticket(queues, team)
    assert _ticket(queues, "a").turned is Turned.FULL
    assert _ticket(queues, "c").turned is None, "one of two goes for one of none"
    assert _ticket(queues, "d").turned is None
    assert _ticket(queues, "e").turned is Turned.FULL, "everybody has one"


def test_a_queue_without_a_limit_has_one_all_the_same() -> None:
    queues, target = Queues(), replace(HOME, waiting_most=None)
    for _ in range(WAITING_MOST):
        _ticket(queues, target=target)
    assert _ticket(queues, target=target).turned is Turned.FULL


def test_nobody_waits_where_the_limit_says_so() -> None:
    queues, target = Queues(), replace(HOME, waiting_most=0)
    assert _ticket(queues, target=target).turned is Turned.FULL
    (seen,) = queues.met_by("research", fleet={"home": FULL}, policy=_policy(target)).values()
    assert seen.queue == QueueSeen(waiting=0, ahead=0, is_full=True)


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (replace(ROOM, circuit=Circuit.OPEN, rests_after="cut"), "its circuit is open after repeated failures (cut)"),
        (replace(FULL, serves_instead="llama"), "it serves llama instead"),
    ],
)
def test_whoever_waits_for_a_target_that_falls_out_goes_elsewhere_at_once(seen: TargetSeen, why: str) -> None:
    queues = Queues()
    tickets = [_ticket(queues) for _ in range(3)]
    _looked(queues, seen)
    assert {(ticket.turned, ticket.why) for ticket in tickets} == {(Turned.RESTS, why)}
    assert queues.waiting == 0


def test_a_target_that_comes_back_is_sent_one() -> None:
    queues = Queues()
    tickets = [_ticket(queues) for _ in range(3)]
    _looked(queues, TargetSeen(in_flight=0, circuit=Circuit.HALF_OPEN))
    assert [ticket.turned for ticket in tickets] == [Turned.SENT, None, None]


def test_a_minute_that_is_used_up_is_waited_for_too() -> None:
    queues = Queues()
    tickets = [_ticket(queues) for _ in range(2)]
    _looked(queues, TargetSeen(in_flight=0, requests_left=0))
    assert [ticket.turned for ticket in tickets] == [None, None]
    _looked(queues, TargetSeen(in_flight=0, requests_left=1))
    assert [ticket.turned for ticket in tickets] == [Turned.SENT, None]


def test_nobody_is_sent_whose_prompt_is_more_than_the_minute_has_left() -> None:
    queues = Queues()
    tickets = [_ticket(queues, prompt_tokens=80) for _ in range(2)]
    _looked(queues, TargetSeen(in_flight=0, tokens_left=79))
    assert [ticket.turned for ticket in tickets] == [None, None]
    _looked(queues, TargetSeen(in_flight=0, tokens_left=159))
    assert [ticket.turned for ticket in tickets] == [Turned.SENT, None], "the first one's tokens are spoken for"
    queues.leave(tickets[0])
    _looked(queues, TargetSeen(in_flight=0, tokens_left=80))
    assert tickets[1].turned is Turned.SENT


def test_there_is_no_room_in_a_minute_that_is_used_up() -> None:
    queues = Queues()
    for seen, has_room in (
        (replace(ROOM, requests_left=0), False),
        (replace(ROOM, requests_left=1), True),
        (replace(ROOM, tokens_left=9), False),
        (replace(ROOM, tokens_left=10), True),
    ):
        assert queues.has_room(HOME, seen, prompt_tokens=10) is has_room


def test_a_short_rest_that_the_target_asked_for_is_waited_out_by_whoever_can() -> None:
    queues, resting = Queues(), TargetSeen(circuit=Circuit.OPEN, rests_after="rate_limited")
    short, long = _ticket(queues, until_s=100.5), _ticket(queues, until_s=110.0)
    _looked(queues, resting, at_s=100.0, pauses={"home": 1.0})
    assert (short.turned, long.turned) == (Turned.RESTS, None)
    assert "rate_limited" in short.why
    _looked(queues, replace(resting, circuit=Circuit.HALF_OPEN), at_s=101.0)
    assert long.turned is Turned.SENT


def test_whoever_waits_out_a_rest_goes_when_it_becomes_another() -> None:
    queues, resting = Queues(), TargetSeen(circuit=Circuit.OPEN)
    first, second = _ticket(queues), _ticket(queues)
    _looked(queues, resting, pauses={"home": 1.0})
    assert queues.waiting == 2
    _looked(queues, replace(resting, serves_instead="llama"), pauses={"home": 1.0})
    assert (first.turned, second.turned) == (Turned.RESTS, Turned.RESTS)
    third = _ticket(queues)
    _looked(queues, resting)
    assert third.turned is Turned.RESTS, "nobody asked for this one"


def test_whoever_leaves_or_is_too_late_is_out_of_the_queue() -> None:
    queues = Queues()
    left, late, stays = (_ticket(queues) for _ in range(3))
    queues.leave(left)
    queues.give_up(late, "no place came free")
    queues.leave(late)
    queues.give_up(left, "again")
    assert (left.turned, late.turned, stays.turned) == (Turned.LEFT, Turned.TIMEOUT, None)
    assert queues.lengths() == {"home": 1}
    _looked(queues, ROOM)
    assert stays.turned is Turned.SENT
    assert (left.turned, late.turned) == (Turned.LEFT, Turned.TIMEOUT)


def test_a_stop_turns_everybody_away_and_nobody_waits_after_it() -> None:
    queues = Queues()
    before = _ticket(queues)
    queues.stop()
    assert before.turned is Turned.STOPS
    assert _ticket(queues).turned is Turned.STOPS
    assert queues.waiting == 0


def test_the_limit_of_the_policy_in_force_counts_for_whoever_waits() -> None:
    queues = Queues()
    tickets = [_ticket(queues) for _ in range(4)]
    queues.look({"home": FULL}, {"home": replace(HOME, in_flight_most=3)}, at_s=0.0, pauses={})
    assert [ticket.turned for ticket in tickets] == [Turned.SENT, None, None, None]
    queues.look({"home": FULL}, {"home": replace(HOME, in_flight_most=None)}, at_s=0.0, pauses={})
    assert {ticket.turned for ticket in tickets} == {Turned.SENT}


def _policy(target: Target = HOME) -> Policy:
    return replace(a_policy(target), queued=("home",))


def test_a_request_finds_its_own_teams_place_in_the_queue_and_when_its_turn_is() -> None:
    queues, fleet = Queues(), {"home": replace(FULL, predicted_ttft_ms=50.0)}
    for _ in range(3):
        _ticket(queues, "flood")
    assert queues.met_by("flood", fleet=fleet, policy=_policy())["home"].queue == QueueSeen(waiting=3, ahead=3)
    queues.answered("home", after_s=4.0)
    flood = queues.met_by("flood", fleet=fleet, policy=_policy())["home"]
    assert flood.queue == QueueSeen(waiting=3, ahead=3, predicted_wait_ms=7000.0)
    assert flood.predicted_ttft_ms == 7050.0
    single = queues.met_by("single", fleet=fleet, policy=_policy())["home"]
    assert single.queue == QueueSeen(waiting=3, ahead=1, predicted_wait_ms=3000.0)


def test_a_curve_that_has_reckoned_with_the_next_place_is_not_added_to_for_it() -> None:
    queues, seen = Queues(), replace(FULL, predicted_ttft_ms=2050.0, prefill_tokens_per_s=1000.0)
    _ticket(queues, "other")
    queues.answered("home", after_s=4.0)
    met = queues.met_by("single", fleet={"home": seen}, policy=_policy())["home"]
    assert met.queue == QueueSeen(waiting=1, ahead=1, predicted_wait_ms=3000.0)
    assert met.predicted_ttft_ms == 2050.0 + 2000.0
    has_slots = replace(seen, saturation=0.5)
    met = queues.met_by("single", fleet={"home": has_slots}, policy=_policy())["home"]
    assert met.predicted_ttft_ms == 2050.0 + 3000.0


def test_no_first_token_is_predicted_before_its_turn() -> None:
    queues, seen = Queues(), replace(FULL, predicted_ttft_ms=50.0, prefill_tokens_per_s=1000.0)
    _ticket(queues, "other")
    queues.answered("home", after_s=4.0)
    met = queues.met_by("single", fleet={"home": seen}, policy=_policy())["home"]
    assert met.predicted_ttft_ms == 3000.0


def test_a_fleet_with_room_is_seen_as_it_is() -> None:
    queues, fleet = Queues(), {"home": ROOM}
    assert queues.met_by("research", fleet=fleet, policy=_policy()) is fleet


def test_places_that_are_reserved_count_as_taken_for_whoever_decides() -> None:
    queues = Queues()
    _ticket(queues)
    _looked(queues, ROOM)
    assert queues.met_by("research", fleet={"home": ROOM}, policy=_policy())["home"].in_flight == 2


def test_a_queue_of_a_target_that_is_gone_is_forgotten_once_nobody_is_in_it() -> None:
    queues = Queues()
    ticket = _ticket(queues)
    queues.forget_others({})
    assert queues.lengths() == {"home": 1}
    queues.look({}, {}, at_s=0.0, pauses={})
    assert ticket.turned is Turned.SENT, "what was admitted may still go there"
    queues.leave(ticket)
    queues.forget_others({"home": None})
    assert queues.lengths() == {"home": 0}
    queues.forget_others({})
    assert queues.lengths() == {}


def test_whoever_wakes_after_its_queue_was_forgotten_disturbs_nobody() -> None:
    queues = Queues()
    ticket = _ticket(queues)
    _looked(queues, replace(FULL, serves_instead="llama"))
    queues.forget_others({})
    assert queues.lengths() == {}
    queues.give_up(ticket, "too late")
    queues.leave(ticket)
    assert ticket.turned is Turned.RESTS
    assert queues.waiting == 0


def test_the_mean_of_how_long_a_place_is_kept_follows_what_ends() -> None:
    queues = Queues()
    assert queues.wait_s(HOME, FULL, team="research") is None
    queues.answered("home", after_s=9.0)
    assert queues.wait_s(HOME, FULL, team="research") is None, "nobody has ever waited: nothing is measured"
    _ticket(queues)
    for after_s in (2.0, 4.0):
        queues.answered("home", after_s=after_s)
    assert queues.wait_s(HOME, FULL, team="other") == pytest.approx(1.5 * 2.2 / 2)
