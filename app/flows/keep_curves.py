"""What is learned of self-hosted targets is kept now and then, and taken up by processes that know less.

Off the way of requests, and of no weight for them: with Postgres away a process goes on with what it has seen itself,
and keeps it when Postgres is back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from app.domain.capacity.learned import LearnedCurve
from app.live.fleet import Fleet
from app.ports import BooksAway, Clock
from app.ports.curves import CurveBook

#: Between two looks, on average; each is up to a fifth sooner or later.
EVERY_S: Final = 30.0
SPREAD: Final = 0.2


class CurveKeeper:
    """One per process. `jitter` gives numbers in [0, 1)."""

    def __init__(self, book: CurveBook, fleet: Fleet, *, clock: Clock, jitter: Callable[[], float]) -> None:
        self._book = book
        self._fleet = fleet
        self._clock = clock
        self._jitter = jitter
        #: By target, as it was offered to the book last.
        self._offered: dict[str, LearnedCurve] = {}

    async def recall(self) -> None:
        """Take up what is kept. Raises BooksAway."""
        kept = await self._book.kept()
        before = {curve.of.target: curve for curve in self._fleet.learned()}
        self._fleet.recall(kept, at_s=self._clock.monotonic_s())
        for curve in self._fleet.learned():
            # What was only taken up is no news to the book.
            if curve.fit != (before[curve.of.target].fit if curve.of.target in before else None):
                self._offered[curve.of.target] = curve

    async def offer(self) -> None:
        """Keep what was learned since the last time. Raises BooksAway: it is offered again then."""
        learned = {curve.of.target: curve for curve in self._fleet.learned()}
        news = [curve for name, curve in sorted(learned.items()) if _is_news(curve, self._offered.get(name))]
        if news:
            await self._book.keep(news)
        self._offered = learned

    async def keep(self, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Look, for ever, until cancelled."""
        while True:
            await pause(EVERY_S * (1 + SPREAD * (2 * self._jitter() - 1)))
            with contextlib.suppress(BooksAway):
                await self.recall()
                await self.offer()


def _is_news(curve: LearnedCurve, before: LearnedCurve | None) -> bool:
    """A smoothed time alone is none: it is forgotten before it is old."""
    if before is None:
        return True
    return (curve.of, curve.fit, curve.engine_version) != (before.of, before.fit, before.engine_version)
