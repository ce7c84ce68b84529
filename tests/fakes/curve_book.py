"""A book of curves in memory that behaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from app.domain.capacity.learned import LearnedCurve, is_other_version
from app.domain.capacity.line import WEIGHT_MOST
from app.ports import BooksAway
from app.ports.curves import KeptCurve

MONTH_S = 30 * 86_400


class MemoryCurveBook:
    """`ports.curves.CurveBook`. `away = True` takes it away; `now_s` is its clock."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[float, LearnedCurve]] = {}
        self.away = False
        self.now_s = 0.0

    async def keep(self, curves: Sequence[LearnedCurve]) -> None:
        self._answer_or_be_away()
        self._rows = {name: row for name, row in self._rows.items() if self.now_s - row[0] <= MONTH_S}
        for curve in curves:
            kept = self._rows.get(curve.of.target)
            if kept is None or kept[1].of != curve.of:
                self._rows[curve.of.target] = (self.now_s, curve)
            elif self._gives_way(*kept, to=curve):
                version = curve.engine_version or kept[1].engine_version
                self._rows[curve.of.target] = (self.now_s, replace(curve, engine_version=version))

    async def kept(self) -> Sequence[KeptCurve]:
        self._answer_or_be_away()
        return tuple(
            KeptCurve(curve=curve, age_s=self.now_s - kept_s) for _, (kept_s, curve) in sorted(self._rows.items())
        )

    def _gives_way(self, kept_s: float, kept: LearnedCurve, *, to: LearnedCurve) -> bool:
        if is_other_version(kept.engine_version, to.engine_version):
            return True
        if kept.fit.answers > WEIGHT_MOST:
            return True
        return to.fit.answers >= kept.after(self.now_s - kept_s).fit.answers

    def _answer_or_be_away(self) -> None:
        if self.away:
            raise BooksAway("the books are away: try again")
