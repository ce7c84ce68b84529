"""The protocols of corrections: attempts as they stand, to be priced anew or held against a seller's account."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from app.domain.ledger.rerating import Rated


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedQuery:
    """Which attempts: of requests asked from `since` (inclusive) to `until` (exclusive), both aware."""

    since: datetime
    until: datetime
    target: str | None = None
    #: The public name that callers asked for.
    model: str | None = None


class RatedBook(Protocol):
    """What attempts cost as they stand. Raises BooksAway."""

    def rated(self, query: RatedQuery) -> AsyncIterator[Sequence[Rated]]:
        """All of them, by their ids, a batch at a time, copies for shadows too. Each batch is read when it is asked
        for, with the adjustments that are booked then."""
        ...
