"""A price book in memory that behaves."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.pricing.rate_card import RateCard
from app.ports import BooksAway
from app.ports.prices import PriceRow, PriceSource


class MemoryPriceBook:
    """`ports.prices.PriceBook`. `away = True` takes it away."""

    def __init__(self) -> None:
        self._rows: list[PriceRow] = []
        self.away = False

    async def remember(self, rows: Sequence[PriceRow]) -> int:
        self._answer_or_be_away()
        before = len(self._rows)
        for row in rows:
            if not any(_known_by(row) == _known_by(kept) for kept in self._rows):
                self._rows.append(row)
        return len(self._rows) - before

    async def find(self, digest: str) -> RateCard | None:
        self._answer_or_be_away()
        cards = (row.dated.card for row in sorted(self._rows, key=lambda row: row.first_seen_s))
        return next((card for card in cards if card.digest == digest), None)

    async def rows(self, *, source: PriceSource | None = None, name: str | None = None) -> Sequence[PriceRow]:
        self._answer_or_be_away()
        wanted = [row for row in reversed(self._rows) if source in (None, row.source) and name in (None, row.name)]
        return tuple(sorted(wanted, key=lambda row: (row.name, -row.first_seen_s)))

    def _answer_or_be_away(self) -> None:
        if self.away:
            raise BooksAway("the books are away: try again")


def _known_by(row: PriceRow) -> tuple[object, ...]:
    dated = row.dated
    return row.name, row.model, row.source, dated.card.digest, dated.valid_from, dated.valid_to
