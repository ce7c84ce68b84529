"""A rates book in memory that behaves."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.pricing.self_host import MeasuredRates
from app.ports import BooksAway


class MemoryRatesBook:
    """`ports.RatesBook`. `away = True` takes it away."""

    def __init__(self) -> None:
        self._newest: dict[str, MeasuredRates] = {}
        self.away = False

    async def remember(self, rates: MeasuredRates) -> None:
        self._answer_or_be_away()
        known = self._newest.get(rates.target)
        if known is None or rates.measured_at_s >= known.measured_at_s:
            self._newest[rates.target] = rates

    async def newest(self) -> Sequence[MeasuredRates]:
        self._answer_or_be_away()
        return tuple(sorted(self._newest.values(), key=lambda rates: (-rates.measured_at_s, rates.target)))

    def _answer_or_be_away(self) -> None:
        if self.away:
            raise BooksAway("the books are away: try again")
