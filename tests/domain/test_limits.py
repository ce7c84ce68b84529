from __future__ import annotations

import pytest

from app.domain.limits import PER_MINUTE_MOST, UNLIMITED, RateKind, RateLimits


def test_limits_are_found_by_their_kind() -> None:
    limits = RateLimits(requests_per_minute=1, tokens_per_minute=PER_MINUTE_MOST)
    assert [limits.of(kind) for kind in RateKind] == [1, PER_MINUTE_MOST]
    assert [UNLIMITED.of(kind) for kind in RateKind] == [None, None]


@pytest.mark.parametrize("limit", [0, -1, PER_MINUTE_MOST + 1])
def test_a_limit_that_lets_nobody_in_or_is_out_of_bounds_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="leave it out"):
        RateLimits(requests_per_minute=limit)
    with pytest.raises(ValueError, match="leave it out"):
        RateLimits(tokens_per_minute=limit)
