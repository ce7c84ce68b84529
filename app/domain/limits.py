"""Limits by the minute: of a key, a team, a target."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: No limit may be larger: sums of a minute stay far from what a column holds.
PER_MINUTE_MOST = 1_000_000_000_000


class RateKind(StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """What may be asked in a minute, over all processes together; None: no limit. Raises ValueError below 1."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def __post_init__(self) -> None:
        for limit in (self.requests_per_minute, self.tokens_per_minute):
            if limit is not None and not 1 <= limit <= PER_MINUTE_MOST:
                raise ValueError(f"a limit by the minute is 1 to {PER_MINUTE_MOST}, not {limit}; leave it out for none")

    def of(self, kind: RateKind) -> int | None:
        """The limit of that kind."""
        return self.requests_per_minute if kind is RateKind.REQUESTS else self.tokens_per_minute


UNLIMITED = RateLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class RateStanding:
    """How a limit stands, as its caller is told."""

    kind: RateKind
    per_minute: int
    #: What may still be asked now.
    left: int
    #: Seconds until all of `per_minute` may be asked again, if nobody asks meanwhile.
    full_in_s: float
