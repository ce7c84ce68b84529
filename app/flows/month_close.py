"""A month is closed: sealed, added up, and kept with a digest that proves for ever that nothing of it changed."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.ledger.month import (
    NO_MONTH_BEFORE,
    ClosedMonth,
    Month,
    MonthsSeen,
    MonthStaysOpen,
    closed_month,
    faults,
    may_close,
)
from app.ports.ledger import MonthBook


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthClosed:
    """The month as it was kept, and how many processes may still book facts of it, which then count for a later one."""

    closed: ClosedMonth
    unfinished: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthVerified:
    """A closed month, and what differs in the books now; nothing: it is as it was."""

    closed: ClosedMonth
    faults: tuple[str, ...]


async def close_month(book: MonthBook, month: Month, *, by: str) -> MonthClosed:
    """Seal the month, add it up, keep the result. Called again after a failure half-way it goes on from there.

    Raises MonthStaysOpen, saying what comes first.
    """
    seen = await book.seen()
    may_close(month, seen=seen)
    unfinished = await book.unfinished(month)
    if not await book.seal(month, by=by):
        raise MonthStaysOpen(
            f"{month} could not be sealed: somebody else closes months now, see `breakeven month list`"
        )
    closed = closed_month(month, parts=await book.parts(month), previous=_digest_before(month, seen=seen))
    await book.close(closed)
    return MonthClosed(closed=closed, unfinished=unfinished)


async def verify_months(book: MonthBook, month: Month | None = None) -> tuple[MonthVerified, ...]:
    """Add up every closed month again, or the one asked for. Raises MonthStaysOpen when that one is not closed."""
    seen = await book.seen()
    wanted = [each for each in seen.closed if month in (None, each.month)]
    if month is not None and not wanted:
        raise MonthStaysOpen(_why_not_closed(month, seen=seen))
    return tuple([await _verified(book, each, seen=seen) for each in wanted])


def _why_not_closed(month: Month, *, seen: MonthsSeen) -> str:
    known = (seen.first, *seen.sealed, *(each.month for each in seen.closed))
    first = min((each for each in known if each is not None), default=None)
    if first is not None and month < first:
        return f"nothing was booked in {month}: the books begin with {first}, and there is nothing to verify before it"
    return f"{month} is not closed: `breakeven month close {month}` does that"


async def _verified(book: MonthBook, closed: ClosedMonth, *, seen: MonthsSeen) -> MonthVerified:
    before = _digest_before(closed.month, seen=seen)
    parts = await book.parts(closed.month)
    return MonthVerified(closed=closed, faults=faults(closed, parts=parts, previous=before))


def _digest_before(month: Month, *, seen: MonthsSeen) -> str:
    return next((each.digest for each in reversed(seen.closed) if each.month < month), NO_MONTH_BEFORE)
