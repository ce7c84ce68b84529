"""Every price in force is written down, so that a digest on a row of the ledger can be looked up for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from datetime import date

from app.domain.pricing.price_list import DatedCard
from app.domain.target import Hosting
from app.live.fleet import Fleet
from app.live.policy_slot import PolicySlot
from app.ports import BooksAway, Clock
from app.ports.prices import PriceBook, PriceRow, PriceSource

LOOK_EVERY_S = 5.0
_MICROSECONDS = 1_000_000

#: What makes a row one of its own.
_Known = tuple[str, str, PriceSource, str, date | None, date | None]


class PricesInForce:
    """One a process. Beside the traffic: nothing of it is on the path of a request."""

    def __init__(self, *, book: PriceBook, fleet: Fleet, slot: PolicySlot, clock: Clock) -> None:
        self._book = book
        self._fleet = fleet
        self._slot = slot
        self._clock = clock
        self._known: set[_Known] = set()

    async def remember(self) -> int:
        """Write down what is in force or going to be, and was not written down by this process; how many rows of it
        were new to the book. Raises BooksAway: the next call takes them along."""
        rows = [row for row in self._rows() if _known_by(row) not in self._known]
        if not rows:
            return 0
        kept = await self._book.remember(rows)
        self._known.update(_known_by(row) for row in rows)
        return kept

    async def keep(
        self, *, every_s: float = LOOK_EVERY_S, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        """Remember, for ever, until cancelled; while Postgres is away, later."""
        while True:
            with contextlib.suppress(BooksAway):
                await self.remember()
            await pause(every_s)

    def _rows(self) -> Iterator[PriceRow]:
        """The lists of the policy with all their days, and the cards of our own machines."""
        now_s = self._clock.unix_us() // _MICROSECONDS
        seen = self._fleet.view(at_s=self._clock.monotonic_s())
        for target in self._slot.current.targets.values():
            source = PriceSource.POLICY
            cards = target.price_list
            if not cards and target.rate_card is not None:
                cards = (DatedCard(card=target.rate_card),)
            elif not cards and target.hosting is Hosting.SELF_HOSTED and target.name in seen:
                source = PriceSource.MEASURED
                measured = seen[target.name].rate_card
                cards = () if measured is None else (DatedCard(card=measured),)
            for dated in cards:
                yield PriceRow(name=target.name, model=target.model, source=source, dated=dated, first_seen_s=now_s)


def _known_by(row: PriceRow) -> _Known:
    dated = row.dated
    return row.name, row.model, row.source, dated.card.digest, dated.valid_from, dated.valid_to
