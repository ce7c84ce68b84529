from __future__ import annotations

from app.live.rate_windows import MINUTE_S, STEP_S, RateWindow
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
