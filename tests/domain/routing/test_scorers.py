from __future__ import annotations

from collections import Counter
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.money import Nanodollars
from app.domain.routing.scorers import (
    LOAD_BOUND_PERCENT,
    expected_charge,
    expected_usage,
    is_drawn,
    marginal_charge,
    session_home,
    session_ring,
    waiting_charges,
    weighted_draw,
)
from app.domain.target import Hosting, TargetSeen
from tests.makers import CARD, a_route, a_target, some_facts

NAMES = [f"t{n}" for n in range(6)]
SESSIONS = [f"session-{n}" for n in range(400)]


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


def test_no_more_of_a_prompt_is_cached_than_there_is() -> None:
    usage = expected_usage(facts=some_facts(prompt_tokens=40), route=a_route("home"), cached_tokens=90)
    assert (usage.prompt, usage.cached) == (40, 40)


# ── weights ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_draw_is_a_function_of_the_text_alone() -> None:
    weights = {"a": 3, "b": 2, "c": 1}
    draws = {weighted_draw(["a", "b", "c"], weights=weights, drawn_by=f"r{n}") for n in range(200)}
    again = {weighted_draw(["c", "a", "b"], weights=weights, drawn_by=f"r{n}") for n in range(200)}
    assert draws == again
    assert len(draws) == 6


def test_first_and_second_places_are_drawn_by_weight() -> None:
    """Of a, b and c with 6 : 3 : 1, c is first in 10 % and, where a is first, second in 1 of 4."""
    weights = {"a": 6, "b": 3, "c": 1}
    draws = [weighted_draw("abc", weights=weights, drawn_by=f"r{n}") for n in range(6000)]
    firsts = Counter(order[0] for order in draws)
    assert 3450 <= firsts["a"] <= 3750
    assert 1650 <= firsts["b"] <= 1950
    behind_a = Counter(order[1] for order in draws if order[0] == "a")
    assert 0.22 <= behind_a["c"] / firsts["a"] <= 0.28


def test_a_target_that_goes_moves_only_what_was_drawn_for_it() -> None:
    weights = dict(zip(NAMES, (5, 1, 3, 2, 2, 7), strict=True))
    for session in SESSIONS:
        order = weighted_draw(NAMES, weights=weights, drawn_by=session)
        for gone in NAMES:
            left = weighted_draw([name for name in NAMES if name != gone], weights=weights, drawn_by=session)
            assert left == tuple(name for name in order if name != gone)


def test_a_canary_that_grows_takes_and_gives_nothing_back() -> None:
    before = {one: weighted_draw("ab", weights={"a": 95, "b": 5}, drawn_by=one)[0] for one in SESSIONS}
    after = {one: weighted_draw("ab", weights={"a": 75, "b": 25}, drawn_by=one)[0] for one in SESSIONS}
    moved = {(before[one], after[one]) for one in SESSIONS if before[one] != after[one]}
    assert moved == {("a", "b")}


def test_weights_of_zero_and_none_at_all_stand_last_by_name() -> None:
    assert weighted_draw("dcba", weights={"b": 1, "d": 0}, drawn_by="r")[0] == "b"
    assert weighted_draw("dcba", weights={"b": 1, "d": 0}, drawn_by="r")[1:] == ("a", "c", "d")


@given(share=st.sampled_from((0, 10_000, 250_000, 1_000_000)))
def test_a_share_is_drawn_of_all_and_always_the_same_ones(share: int) -> None:
    drawn = {n for n in range(2000) if is_drawn(share, drawn_by=f"r{n}")}
    assert abs(len(drawn) - share * 2000 / 1_000_000) <= 100
    assert drawn <= {n for n in range(2000) if is_drawn(min(1_000_000, share * 2), drawn_by=f"r{n}")}


def test_none_and_all_are_exact_shares() -> None:
    assert not any(is_drawn(0, drawn_by=f"r{n}") for n in range(500))
    assert all(is_drawn(1_000_000, drawn_by=f"r{n}") for n in range(500))


# ── conversations ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_conversation_has_one_home_while_loads_are_even() -> None:
    for load in (0, 1, 7):
        homes = {
            session_home(session_ring(names, session="s"), in_flight=dict.fromkeys(NAMES, load))
            for names in (NAMES, NAMES[::-1])
        }
        assert len(homes) == 1


def test_conversations_are_spread_evenly() -> None:
    homes = Counter(session_ring(NAMES, session=session)[0] for session in SESSIONS)
    assert set(homes) == set(NAMES)
    assert max(homes.values()) <= 2 * min(homes.values())


def test_a_target_that_goes_moves_only_its_own_conversations() -> None:
    for session in SESSIONS:
        ring = session_ring(NAMES, session=session)
        for gone in NAMES:
            left = session_ring((name for name in NAMES if name != gone), session=session)
            assert left == tuple(name for name in ring if name != gone)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 6),
    arrivals=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=150),
)
def test_no_home_is_ever_over_its_bound(count: int, arrivals: list[tuple[int, bool]]) -> None:
    """Whatever comes, and whoever leaves: with the new request on it, a home has at most 125 % of the even share,
    rounded up. The sessions are few, so that without a bound all would meet on one target."""
    names = NAMES[:count]
    in_flight = dict.fromkeys(names, 0)
    homes: list[str] = []
    for session, leaves in arrivals:
        home = session_home(session_ring(names, session=f"s{session % 2}"), in_flight=in_flight)
        in_flight[home] += 1
        homes.append(home)
        total = sum(in_flight.values())
        assert in_flight[home] <= -(-LOAD_BOUND_PERCENT * total // (100 * count))
        if leaves:
            in_flight[homes.pop(0)] -= 1


@given(loads=st.lists(st.integers(0, 1000), min_size=1, max_size=6), session=st.text(max_size=8))
def test_there_is_always_a_home(loads: list[int], session: str) -> None:
    in_flight = dict(zip(NAMES, loads, strict=False))
    ring = session_ring(in_flight, session=session)
    home = session_home(ring, in_flight=in_flight)
    most = -(-LOAD_BOUND_PERCENT * (sum(loads) + 1) // (100 * len(loads)))
    assert in_flight[home] + 1 <= most
    assert all(in_flight[earlier] + 1 > most for earlier in ring[: ring.index(home)])


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(
    levels=st.lists(st.floats(0, 2), min_size=2, max_size=10),
    ppm=st.integers(0, 1_000_000),
    expected=st.integers(0, 10**12),
    managed=st.integers(0, 10**12) | st.none(),
)
def test_the_fuller_our_machine_the_dearer_one_more_request(
    levels: list[float], ppm: int, expected: int, managed: int | None
) -> None:
    target = a_target(marginal_ppm=ppm)
    costs = [
        marginal_charge(
            target=target,
            seen=TargetSeen(saturation=level),
            expected=Nanodollars(expected),
            cheapest_managed=None if managed is None else Nanodollars(managed),
        )
        for level in sorted(levels)
    ]
    assert costs == sorted(costs)
    own = expected * ppm // 1_000_000
    assert own <= costs[0]
    assert costs[-1] <= own + (managed or 0) + 1


@pytest.mark.parametrize(
    ("seen", "displaced"),
    [
        (TargetSeen(saturation=0.8), 0),
        (TargetSeen(saturation=0.9), 500),
        (TargetSeen(saturation=1.0), 1000),
        (TargetSeen(saturation=1.7), 1000),
        (TargetSeen(in_flight=9), 500),
        (TargetSeen(in_flight=9, saturation=0.1), 0),
    ],
)
def test_what_it_displaces_rises_from_four_fifths_to_full(seen: TargetSeen, displaced: int) -> None:
    target = a_target(in_flight_most=10)
    cost = marginal_charge(target=target, seen=seen, expected=Nanodollars(70), cheapest_managed=Nanodollars(1000))
    assert cost == displaced


def test_a_seller_charges_its_list_price_however_full_it_is() -> None:
    target = a_target(hosting=Hosting.MANAGED, in_flight_most=2)
    cost = marginal_charge(
        target=target,
        seen=TargetSeen(in_flight=2, saturation=1.0),
        expected=Nanodollars(70),
        cheapest_managed=Nanodollars(70),
    )
    assert cost == 70


def test_a_machine_without_a_limit_or_a_signal_displaces_nothing() -> None:
    cost = marginal_charge(
        target=a_target(), seen=TargetSeen(in_flight=500), expected=Nanodollars(70), cheapest_managed=Nanodollars(9)
    )
    assert cost == 0


@given(
    times=st.lists(st.floats(0, 10_000) | st.none(), max_size=8),
    per_second=st.integers(0, 10**10).map(Nanodollars),
)
def test_waiting_is_worth_its_time_and_the_unknown_is_the_slowest(
    times: list[float | None], per_second: Nanodollars
) -> None:
    worth = waiting_charges(times, per_second=per_second)
    assert len(worth) == len(times)
    for ms, amount in zip(times, worth, strict=True):
        assert amount == max(worth) if ms is None else abs(amount - per_second * ms / 1000) <= 1


def test_where_no_speed_is_known_waiting_decides_nothing() -> None:
    assert waiting_charges([None, None], per_second=Nanodollars(10**9)) == (0, 0)
    assert inf not in waiting_charges([None], per_second=Nanodollars(10**9))
