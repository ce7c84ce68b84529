from __future__ import annotations

from app.live.rate_windows import MINUTE_S, STEP_S, RateWindow
from app.ports.ledger import TargetSent
from tests.makers import a_target


def _window(**limits: int) -> RateWindow:
    window = RateWindow()
    window.follow(a_target("away", **limits))
    return window


def test_a_request_takes_one_of_the_requests_and_its_prompt_of_the_tokens() -> None:
    window = _window(requests_per_minute=3, tokens_per_minute=1000)
    window.sent(prompt_tokens=300, at_s=10)
    assert (window.requests_left(at_s=10), window.tokens_left(at_s=10)) == (2, 700)


def test_what_was_used_in_the_end_replaces_the_estimate() -> None:
    window = _window(tokens_per_minute=1000)
    window.sent(prompt_tokens=300, at_s=10)
    window.corrected(tokens=450, at_s=12)
    assert window.tokens_left(at_s=12) == 250
    window.corrected(tokens=-700, at_s=13)
    assert window.tokens_left(at_s=13) == 950


def test_nothing_is_left_below_zero_and_room_comes_back_within_a_minute_and_a_step() -> None:
    window = _window(requests_per_minute=1)
    for _ in range(3):
        window.sent(prompt_tokens=1, at_s=10)
    assert window.requests_left(at_s=10) == 0
    assert window.requests_left(at_s=10 + MINUTE_S) == 0
    assert window.requests_left(at_s=10 + MINUTE_S + STEP_S) == 1
    assert window.changes_after_s(at_s=10) == 10 + MINUTE_S + STEP_S


def test_without_a_limit_nothing_is_said() -> None:
    window = _window(requests_per_minute=5)
    assert window.tokens_left(at_s=0) is None


def test_new_limits_count_what_was_sent_under_the_old_ones() -> None:
    window = _window(requests_per_minute=1)
    window.sent(prompt_tokens=1, at_s=0)
    window.follow(a_target(requests_per_minute=10))
    assert window.requests_left(at_s=0) == 9


def test_a_process_keeps_to_the_room_it_was_given() -> None:
    window = _window(requests_per_minute=10, tokens_per_minute=100)
    window.sent(prompt_tokens=5, at_s=0.0)
    assert window.sent_so_far(at_s=0.0) == TargetSent(
        requests=1, tokens=5, requests_per_minute=10, tokens_per_minute=100
    )
    window.compared(rooms=(2, 30), processes=4, place=1)
    window.sent(prompt_tokens=5, at_s=0.0)
    window.corrected(tokens=10, at_s=0.0)
    assert (window.requests_left(at_s=0.0), window.tokens_left(at_s=0.0)) == (1, 15)
    window.sent(prompt_tokens=20, at_s=0.0)
    assert (window.requests_left(at_s=0.0), window.tokens_left(at_s=0.0)) == (0, 0)


def test_what_is_sent_while_the_room_is_asked_for_is_taken_off_it() -> None:
    window = _window(requests_per_minute=10, tokens_per_minute=100)
    window.sent_so_far(at_s=0.0)
    window.sent(prompt_tokens=5, at_s=0.0)
    window.corrected(tokens=4, at_s=0.0)
    window.compared(rooms=(3, 30), processes=4, place=0)
    assert (window.requests_left(at_s=0.0), window.tokens_left(at_s=0.0)) == (2, 21)


def test_a_room_is_never_more_than_its_own_count_leaves() -> None:
    window = _window(requests_per_minute=3)
    window.compared(rooms=(5, None), processes=1, place=0)
    assert (window.requests_left(at_s=0.0), window.tokens_left(at_s=0.0)) == (3, None)


def test_processes_that_hear_nothing_of_one_another_keep_to_their_shares() -> None:
    windows = [_window(requests_per_minute=10, tokens_per_minute=1001) for _ in range(4)]
    for place, window in enumerate(windows):
        window.compared(rooms=(1, 1), processes=4, place=place)
        window.parted()
    assert [window.requests_left(at_s=0.0) for window in windows] == [3, 3, 2, 2]
    assert [window.tokens_left(at_s=0.0) for window in windows] == [251, 250, 250, 250]
