from __future__ import annotations

import pytest

from app.domain.limits import UNLIMITED, RateKind, RateLimits
from app.live.limits import BELIEVED_S, IDLE_S, SharedLimits, Slice
from app.ports.ledger import RateGranted
from tests.makers import a_caller


def a_slice(per_minute: int = 6000) -> Slice:
    return Slice(name="key/a/requests", owner="key a", kind=RateKind.REQUESTS, per_minute=per_minute)


def granted(amount: int, *, left: int) -> RateGranted:
    return RateGranted(name="key/a/requests", amount=amount, left=left, full_in_s=1.0)


def test_a_slice_asks_for_what_is_waited_for_and_a_second_ahead() -> None:
    one = a_slice()
    one.waiting = 3
    assert one.wish() == 3 + 100


def test_less_is_taken_ahead_as_the_bucket_runs_dry() -> None:
    one = a_slice()
    one.heard(granted(0, left=80), at_s=0.0)
    one.waiting = 1
    assert one.wish() == 1 + 10
    one.heard(granted(0, left=7), at_s=0.0)
    assert one.wish() == 1


def test_who_has_enough_asks_for_nothing_and_asks_before_it_runs_out() -> None:
    one = a_slice()
    one.heard(granted(100, left=5900), at_s=0.0)
    assert (one.is_low(), one.wish()) == (False, 0)
    one.spend(51, at_s=0.0)
    assert (one.is_low(), one.wish()) == (True, 51)


def test_what_is_owed_is_taken_next() -> None:
    one = a_slice(per_minute=10)
    one.heard(granted(0, left=0), at_s=0.0)
    one.spend(4, at_s=0.0)
    assert (one.held, one.is_low(), one.wish()) == (-4, True, 4)
    assert one.standing(at_s=0.0).left == 0
    assert one.comes_in_s(1, at_s=0.0) == pytest.approx(30.0)


def test_what_lies_idle_goes_back_and_what_is_used_does_not() -> None:
    one = a_slice()
    one.heard(granted(100, left=0), at_s=0.0)
    one.spend(1, at_s=10.0)
    assert one.surplus(at_s=10.0 + IDLE_S / 2) == 0
    assert one.surplus(at_s=10.0 + IDLE_S) == 99


def test_an_empty_bucket_is_believed_for_a_moment_only() -> None:
    one = a_slice(per_minute=60)
    assert not one.is_dry(1, at_s=0.0)
    one.heard(granted(0, left=0), at_s=5.0)
    assert one.is_dry(1, at_s=5.0 + BELIEVED_S)
    assert not one.is_dry(1, at_s=5.01 + BELIEVED_S)


def test_a_standing_grows_with_time_up_to_the_limit() -> None:
    one = a_slice(per_minute=60)
    one.heard(granted(0, left=10), at_s=0.0)
    assert [one.standing(at_s=at_s).left for at_s in (0.0, 5.0, 3600.0)] == [10, 15, 60]
    assert one.standing(at_s=5.0).full_in_s == pytest.approx(45.0)


def test_alone_processes_together_give_the_limit_and_no_more() -> None:
    given = 0
    for _ in range(4):
        one = a_slice(per_minute=100)
        one.heard(granted(0, left=40), at_s=0.0)
        for second in range(61):
            one.draw_alone(at_s=float(second), processes=4)
            given += one.held
            one.spend(one.held, at_s=float(second))
    assert given == 40 + 100


def test_alone_less_than_one_a_minute_still_comes_and_nothing_piles_up() -> None:
    one = a_slice(per_minute=2)
    one.heard(granted(0, left=1), at_s=0.0)
    one.draw_alone(at_s=0.0, processes=4)
    assert one.held == 0
    one.draw_alone(at_s=119.0, processes=4)
    assert one.held == 0
    one.draw_alone(at_s=121.0, processes=4)
    one.draw_alone(at_s=10_000.0, processes=4)
    assert one.held == 1


def test_a_caller_has_the_limits_of_its_key_and_of_its_team() -> None:
    shared = SharedLimits()
    caller = a_caller(key_id="abcdefgh", team="research")
    assert shared.of(caller) == ()
    shared.follow(
        keys={
            "abcdefgh": ("abcdefgh", RateLimits(requests_per_minute=5, tokens_per_minute=7)),
            "other222": ("other222", UNLIMITED),
        },
        teams={"research": RateLimits(requests_per_minute=9), "sales": UNLIMITED},
    )
    assert [(one.name, one.per_minute) for one in shared.of(caller)] == [
        ("key/abcdefgh/requests", 5),
        ("key/abcdefgh/tokens", 7),
        ("team/research/requests", 9),
    ]
    assert shared.of(a_caller(key_id="other222", team="sales")) == ()


def test_keys_that_followed_one_another_share_a_slice() -> None:
    shared = SharedLimits()
    limits = RateLimits(requests_per_minute=5)
    shared.follow(keys={"first222": ("first222", limits), "second22": ("first222", limits)}, teams={})
    (first,) = shared.of(a_caller(key_id="first222"))
    (second,) = shared.of(a_caller(key_id="second22"))
    assert first is second


def test_a_limit_that_changes_keeps_what_is_held_and_one_that_is_gone_does_not() -> None:
    shared = SharedLimits()
    caller = a_caller(key_id="abcdefgh")
    shared.follow(keys={"abcdefgh": ("abcdefgh", RateLimits(requests_per_minute=5))}, teams={})
    shared.of(caller)[0].held = 3
    shared.follow(keys={"abcdefgh": ("abcdefgh", RateLimits(requests_per_minute=9))}, teams={})
    assert [(one.held, one.per_minute) for one in shared.of(caller)] == [(3, 9)]
    shared.follow(keys={"abcdefgh": ("abcdefgh", UNLIMITED)}, teams={})
    assert shared.of(caller) == ()
    assert not shared.all()
