"""What is asked in a replay, and when: a trace in virtual time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from app.domain.quick import quickly_made
from app.domain.routing.facts import RequestFacts


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request of a trace. `at_s` counts from its first one; the numbers of tokens, at least 1, are the true ones."""

    at_s: float
    facts: RequestFacts
    prompt_tokens: int
    output_tokens: int


def hurried(arrivals: Iterable[Arrival], *, speed: float) -> Iterator[Arrival]:
    """The same requests at `speed` times their rate: at 0.8 what took an hour takes an hour and a quarter."""
    for arrival in arrivals:
        yield arrival if speed == 1 else replace(arrival, at_s=arrival.at_s / speed)
