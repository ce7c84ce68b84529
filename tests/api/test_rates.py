from __future__ import annotations

import pytest

from app.api.rates import duration, rate_headers
from app.domain.limits import RateKind, RateStanding


def test_a_standing_is_three_headers_of_its_kind() -> None:
    standing = RateStanding(kind=RateKind.TOKENS, per_minute=60_000, left=59_000, full_in_s=1.0)
    assert rate_headers([standing]) == [
        (b"x-ratelimit-limit-tokens", b"60000"),
        (b"x-ratelimit-remaining-tokens", b"59000"),
        (b"x-ratelimit-reset-tokens", b"1s"),
    ]


def test_without_limits_there_are_no_headers() -> None:
    assert rate_headers(()) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, b"0ms"), (0.0001, b"1ms"), (0.34, b"340ms"), (1.0, b"1s"), (1.2, b"2s"), (60.0, b"1m0s"), (65.0, b"1m5s")],
)
def test_a_duration_is_rounded_up_and_short(seconds: float, text: bytes) -> None:
    assert duration(seconds) == text
