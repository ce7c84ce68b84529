"""Months in memory: what counts for each is told by the test."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from app.domain.ledger.month import ClosedMonth, Month, MonthPart, MonthsSeen
from app.ports import BooksAway, RowsRefused


class MemoryMonthBook:
    """`ports.ledger.MonthBook`. `held` is what months hold, by month; `away = True` takes it away."""

    def __init__(self, *, now: datetime) -> None:
        self.now = now
        self.away = False
        self.held: dict[Month, tuple[MonthPart, ...]] = {}
        self.keepers: dict[Month, int] = {}
        self.sealed: list[Month] = []
        self.closed: list[ClosedMonth] = []

    async def seen(self) -> MonthsSeen:
        self._answer_or_be_away()
        return MonthsSeen(
            now=self.now, first=min(self.held, default=None), sealed=tuple(self.sealed), closed=tuple(self.closed)
        )

    async def unfinished(self, month: Month) -> int:
        self._answer_or_be_away()
        return self.keepers.get(month, 0)

    async def seal(self, month: Month, *, by: str) -> bool:
        self._answer_or_be_away()
        if month not in self.sealed and month.end <= self.now and (not self.sealed or self.sealed[-1].next == month):
            self.sealed.append(month)
        return month in self.sealed

    async def parts(self, month: Month) -> Sequence[MonthPart]:
        self._answer_or_be_away()
        nothing = MonthPart(name="receipts", rows=0, amount=0, digest="")
        return self.held.get(month, (nothing,))

    async def close(self, closed: ClosedMonth) -> None:
        self._answer_or_be_away()
        if closed.month not in self.sealed or closed.month in [each.month for each in self.closed]:
            raise RowsRefused(f"{closed.month} is not sealed, or closed already")
        self.closed.append(closed)

    def _answer_or_be_away(self) -> None:
        if self.away:
            raise BooksAway("the books are away: try again")
