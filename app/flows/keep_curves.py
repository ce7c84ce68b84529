"""What is learned of self-hosted targets is kept now and then, and taken up by processes that know less.

Off the way of requests, and of no weight for them: with Postgres away a process goes on with what it has seen itself,
and keeps it when Postgres is back. What cannot be kept, or makes no sense, is left out and said once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from app.domain.capacity.learned import LearnedCurve
from app.live.fleet import Fleet
from app.ports import BooksAway, Clock, RowsRefused
from app.ports.curves import CurveBook, KeptCurve

#: Between two looks, on average; each is up to a fifth sooner or later.
EVERY_S: Final = 30.0
SPREAD: Final = 0.2


class CurveKeeper:
    """One per process. `jitter` gives numbers in [0, 1). `notice` gets a sentence when something has to be left out."""

    def __init__(
        self,
        book: CurveBook,
        fleet: Fleet,
        *,
        clock: Clock,
        jitter: Callable[[], float],
        notice: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self._book = book
        self._fleet = fleet
        self._clock = clock
        self._jitter = jitter
        #: By target, as it was offered to the book last.
        self._offered: dict[str, LearnedCurve] = {}
        self._notice = notice
        #: Targets, by what was said of them and holds still.
        self._absurd: set[str] = set()
        self._refused: set[str] = set()
        self._unreadable = False

    async def recall(self) -> None:
        """Take up what is kept. Raises BooksAway."""
        kept = self._sane(await self._kept())
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
            await self._keep(news)
        self._offered = learned

    async def keep(self, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Look, for ever, until cancelled."""
        while True:
            await pause(EVERY_S * (1 + SPREAD * (2 * self._jitter() - 1)))
            with contextlib.suppress(BooksAway):
                await self.recall()
                await self.offer()

    async def _kept(self) -> Sequence[KeptCurve]:
        """Nothing, where a row cannot even be read."""
        try:
            kept = await self._book.kept()
        except RowsRefused as fault:
            if not self._unreadable:
                self._notice(
                    f"how fast targets were cannot be read ({fault}) and is learned anew: delete the rows of "
                    "service_curve that are wrong"
                )
            self._unreadable = True
            return ()
        self._unreadable = False
        return kept

    def _sane(self, kept: Sequence[KeptCurve]) -> list[KeptCurve]:
        absurd = {each.curve.of.target for each in kept if not each.curve.is_sane}
        for target in sorted(absurd - self._absurd):
            self._notice(
                f"what is kept of how fast target {target!r} is makes no sense and is left out: "
                "delete its row of service_curve, or leave it until more was learned"
            )
        self._absurd = absurd
        return [each for each in kept if each.curve.is_sane]

    async def _keep(self, news: Sequence[LearnedCurve]) -> None:
        """All together, or each alone where one is refused: that one is left out until there is news of it."""
        try:
            await self._book.keep(news)
        except RowsRefused:
            for curve in news:
                await self._keep_one(curve)
        else:
            self._refused -= {curve.of.target for curve in news}

    async def _keep_one(self, curve: LearnedCurve) -> None:
        target = curve.of.target
        try:
            await self._book.keep([curve])
        except RowsRefused as fault:
            if target not in self._refused:
                self._notice(
                    f"what was learned of how fast target {target!r} is cannot be kept ({fault}): "
                    "see its address and model in the policy"
                )
            self._refused.add(target)
        else:
            self._refused.discard(target)


def _is_news(curve: LearnedCurve, before: LearnedCurve | None) -> bool:
    """A smoothed time alone is none: it is forgotten before it is old."""
    if before is None:
        return True
    return (curve.of, curve.fit, curve.engine_version) != (before.of, before.fit, before.engine_version)
