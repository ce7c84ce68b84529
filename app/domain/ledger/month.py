"""Months of the ledger: once closed, a month never changes, and its digest proves it.

A month holds the facts that count for it, in parts (receipts, attempts, adjustments, postings). Each part has a number
of rows, a sum in nanodollars and a digest over its rows in a total order; the month's digest is over its parts and
over the digest of the month before, so that no closed month can be exchanged without all that follow.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, Self

from app.domain.errors import BadRequest, BreakevenError

#: What stands for the month before the first one.
NO_MONTH_BEFORE: Final = "0" * 64
_WRITTEN: Final = re.compile(r"(\d{4})-(\d\d)", re.ASCII)
_MONTHS_OF_A_YEAR: Final = 12


class MonthStaysOpen(BreakevenError):
    """A month that cannot be closed; the sentence says what has to come first."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Month:
    """A calendar month in UTC."""

    year: int
    number: int

    @classmethod
    def read(cls, text: str) -> Self:
        """From `2026-11`. Raises BadRequest."""
        written = _WRITTEN.fullmatch(text.strip())
        year, number = (0, 0) if written is None else (int(written[1]), int(written[2]))
        if year == 0 or not 1 <= number <= _MONTHS_OF_A_YEAR:
            raise BadRequest(f"{text[:40]!r} is no month: write it as 2026-11", param="month")
        return cls(year=year, number=number)

    @classmethod
    def of(cls, moment: datetime | date) -> Self:
        """The month of a day, or of an aware moment."""
        day = moment.astimezone(UTC) if isinstance(moment, datetime) else moment
        return cls(year=day.year, number=day.month)

    @property
    def first_day(self) -> date:
        return date(self.year, self.number, 1)

    @property
    def begin(self) -> datetime:
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment that is no longer in it."""
        return self.next.begin

    @property
    def next(self) -> Month:
        if self.number == _MONTHS_OF_A_YEAR:
            return Month(year=self.year + 1, number=1)
        return Month(year=self.year, number=self.number + 1)

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthPart:
    """One kind of rows of a month."""

    name: str
    rows: int
    #: In nanodollars; that of postings is 0 unless the books are broken.
    amount: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedMonth:
    """What a month held when it was closed."""

    month: Month
    parts: tuple[MonthPart, ...]
    #: The digest of the month before.
    previous: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthsSeen:
    """What the books say of their months. `now` is the database's clock; `first` the first month with a fact in it."""

    now: datetime
    first: Month | None
    #: Nothing is booked into these any more; the last of them may not be added up yet.
    sealed: tuple[Month, ...]
    #: Oldest first.
    closed: tuple[ClosedMonth, ...]


def may_close(month: Month, *, seen: MonthsSeen) -> None:
    """Raises MonthStaysOpen unless the month is over and is the next one to close, or sealed but not added up yet."""
    if month in [each.month for each in seen.closed]:
        raise MonthStaysOpen(f"{month} is closed already: `breakeven month verify {month}` checks it")
    unsummed = set(seen.sealed) - {each.month for each in seen.closed}
    if unsummed and min(unsummed) != month:
        raise MonthStaysOpen(f"{min(unsummed)} is sealed but not added up yet: close {min(unsummed)} first")
    if month in unsummed:
        return
    if month.end > seen.now:
        raise MonthStaysOpen(f"{month} is not over: close it from {month.end:%Y-%m-%d} on (UTC)")
    due = max(seen.sealed).next if seen.sealed else seen.first
    if due is not None and due < month:
        raise MonthStaysOpen(f"{due} is still open: months are closed one after the other, so close {due} first")
    if due is not None and month < due:
        raise MonthStaysOpen(f"{month} lies before {due}, the next month to close: nothing was booked there")


def closed_month(month: Month, *, parts: Sequence[MonthPart], previous: str) -> ClosedMonth:
    """The month with its digest."""
    lines = [f"{part.name} {part.rows} {part.amount} {part.digest}" for part in parts]
    text = "\n".join((previous, str(month), *lines))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return ClosedMonth(month=month, parts=tuple(parts), previous=previous, digest=digest)


def faults(kept: ClosedMonth, *, parts: Sequence[MonthPart], previous: str) -> tuple[str, ...]:
    """What differs between a closed month and the books as they are now, in sentences; none: it is as it was."""
    found = [
        f"{kept.month}: {was.name} were {was.rows} rows and {was.amount} nanodollars, and are {now.rows} rows and "
        f"{now.amount} nanodollars{'' if was.digest == now.digest else ', with other contents'}"
        for was, now in zip(kept.parts, parts, strict=True)
        if was != now
    ]
    if kept.previous != previous:
        found.append(f"{kept.month}: the month before it has another digest than when it was closed")
    if kept.digest != closed_month(kept.month, parts=kept.parts, previous=kept.previous).digest:
        found.append(f"{kept.month}: its own record was altered: the digest does not fit its figures")
    return tuple(found)
