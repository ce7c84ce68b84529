"""The protocol of reconciliation: the attempts at a seller's targets, to be held against its export."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from app.domain.ledger.billing import OurCall
from app.domain.target import Hosting

#: Attempts so long before and after a period are read too: sellers may count them for a day inside it.
BORDER: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsQuery:
    """Attempts at these targets that count for the period from `since` (inclusive) to `until` (exclusive), both aware,
    or whose request was asked within `BORDER` of it."""

    since: datetime
    until: datetime
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledTarget:
    """A target that had attempts in a period."""

    name: str
    hosting: Hosting
    #: The provider or engine: "openai", "vllm", …
    kind: str
    attempts: int


class CallBook(Protocol):
    """The books attempt by attempt. Raises BooksAway."""

    async def targets(self, *, since: datetime, until: datetime) -> Sequence[CalledTarget]:
        """Those with attempts of requests asked in the period, or counting for it; by name, then kind."""
        ...

    def calls(self, query: CallsQuery) -> AsyncIterator[Sequence[OurCall]]:
        """All attempts of the query on one snapshot, by their ids, a batch at a time, copies for shadows too.

        Their `counted` is what counts for the period, at accounting time: that of the booking where the attempt's own
        month was closed."""
        ...
