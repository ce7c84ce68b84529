"""The protocol of what was learned of self-hosted targets, which outlives the process that learned it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.capacity.learned import LearnedCurve


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCurve:
    """As it was kept so long ago, by the clock of the book."""

    curve: LearnedCurve
    age_s: float


class CurveBook(Protocol):
    """One curve for each name of a target, whoever learned it. Raises BooksAway, and RowsRefused
    where a curve cannot be kept or read at all."""

    async def keep(self, curves: Sequence[LearnedCurve]) -> None:
        """Keep each of them in the place of what is kept of its target: if that is of another engine, model or version;
        else if it rests on as many answers or more, those that are kept counting for what they are worth by now, and
        for nothing where they are more than any line can have. A version that is not known leaves the one that is kept.
        What nobody has kept anew for a month is forgotten."""
        ...

    async def kept(self) -> Sequence[KeptCurve]:
        """All of them, by target."""
        ...
