"""Prices that turned out otherwise: what they touch is priced anew, by adjustments; no row is edited."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC

from app.domain.ledger.rerating import NewPrice, Rated, re_rated
from app.domain.money import ZERO, Nanodollars
from app.domain.pricing.price_list import DatedCard
from app.domain.pricing.rate_card import RateCard
from app.ports import Clock
from app.ports.corrections import RatedBook, RatedQuery
from app.ports.ledger import AdjustmentBook
from app.ports.prices import PriceBook, PriceRow, PriceSource

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Correcting:
    """The books that a correction reads and writes."""

    rated: RatedBook
    adjustments: AdjustmentBook
    prices: PriceBook
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedPart:
    """What became of the attempts of one target that were priced by one card, and now are by another."""

    target: str
    card_before: str
    card_after: str
    attempts: int = 0
    #: What their tokens cost before and after.
    before: Nanodollars = ZERO
    after: Nanodollars = ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """What a correction came to; of a dry run: what it would come to."""

    #: Looked at.
    attempts: int
    #: Those that cost something else now, by target and cards.
    parts: tuple[CorrectedPart, ...]
    #: Target → attempts that were left as they are, as no new price is known for their day.
    without_price: dict[str, int]
    #: Adjustments booked by this run: fewer than touched where somebody else corrected at the same time.
    booked: int

    @property
    def touched(self) -> int:
        """Attempts that cost something else."""
        return sum(part.attempts for part in self.parts)

    @property
    def difference(self) -> Nanodollars:
        """What is added to the charges; below zero where they were too high."""
        return Nanodollars(sum(part.after - part.before for part in self.parts))


async def correct_prices(
    books: Correcting, query: RatedQuery, *, new_price: NewPrice, reason: str, by: str, dry_run: bool = False
) -> Corrected:
    """Price every attempt of the query by `new_price` of its day, and book the differences.

    Batch by batch, so that a run that is cut off has corrected some of them; the next one does the rest, and one more
    changes nothing. Raises BooksAway.
    """
    parts: dict[tuple[str, str, str], CorrectedPart] = {}
    without_price: dict[str, int] = {}
    known: set[tuple[str, str]] = set()
    looked_at = booked = 0
    async for batch in books.rated.rated(query):
        looked_at += len(batch)
        priced = []
        for rated in batch:
            card = new_price(rated.target, rated.started_at.astimezone(UTC).date())
            if card is None:
                without_price[rated.target] = without_price.get(rated.target, 0) + 1
            else:
                priced.append((rated, card))
        found = [
            (rated, card, adjustment)
            for rated, card in priced
            if (adjustment := re_rated(rated, card=card, reason=reason, by=by)) is not None
        ]
        for rated, card, adjustment in found:
            _count(parts, rated, card=card, difference=adjustment.amount)
        if found and not dry_run:
            await _remember(books, query, [(rated, card) for rated, card, _ in found], known=known)
            booked += await books.adjustments.adjust([adjustment for _, _, adjustment in found])
    ordered = tuple(parts[key] for key in sorted(parts))
    return Corrected(attempts=looked_at, parts=ordered, without_price=without_price, booked=booked)


async def _remember(
    books: Correcting, query: RatedQuery, priced: Sequence[tuple[Rated, RateCard]], *, known: set[tuple[str, str]]
) -> None:
    """The cards first, so that no adjustment names one that nobody can look up."""
    now_s = books.clock.unix_us() // _MICROSECONDS
    begins, ends = (moment.astimezone(UTC).date() for moment in (query.since, query.until))
    rows = {
        (rated.target, card.digest): PriceRow(
            name=rated.target,
            model=rated.upstream_model,
            source=PriceSource.POLICY,
            dated=DatedCard(card=card, valid_from=begins, valid_to=ends),
            first_seen_s=now_s,
        )
        for rated, card in priced
        if (rated.target, card.digest) not in known
    }
    if rows:
        await books.prices.remember([*rows.values()])
        known.update(rows)


def _count(
    parts: dict[tuple[str, str, str], CorrectedPart], rated: Rated, *, card: RateCard, difference: Nanodollars
) -> None:
    key = (rated.target, rated.rate_card_digest, card.digest)
    part = parts.get(key) or CorrectedPart(target=key[0], card_before=key[1], card_after=key[2])
    parts[key] = dataclasses.replace(
        part,
        attempts=part.attempts + 1,
        before=Nanodollars(part.before + rated.charge),
        after=Nanodollars(part.after + rated.charge + difference),
    )
