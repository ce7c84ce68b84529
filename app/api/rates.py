"""The `x-ratelimit-*` headers, as OpenAI writes them."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from app.domain.limits import RateStanding

Header = tuple[bytes, bytes]


def rate_headers(rates: Sequence[RateStanding]) -> list[Header]:
    """`x-ratelimit-limit-…`, `-remaining-…` and `-reset-…` for each of the standings; for none, none."""
    headers: list[Header] = []
    for rate in rates:
        kind = rate.kind.value.encode()
        headers.append((b"x-ratelimit-limit-" + kind, b"%d" % rate.per_minute))
        headers.append((b"x-ratelimit-remaining-" + kind, b"%d" % rate.left))
        headers.append((b"x-ratelimit-reset-" + kind, duration(rate.full_in_s)))
    return headers


def duration(seconds: float) -> bytes:
    """So long, rounded up, as `340ms`, `12s` or `1m5s`."""
    if seconds < 1:
        return b"%dms" % ceil(1000 * seconds)
    minutes, rest = divmod(ceil(seconds), 60)
    return b"%dm%ds" % (minutes, rest) if minutes else b"%ds" % rest
