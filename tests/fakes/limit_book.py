"""Limits by the minute in memory that behave."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from math import floor

from app.ports import BooksAway
from app.ports.ledger import Compared, RateGranted, RateWanted, TargetSent

SERVES_S = 5.0
CLAIMS_S = 60.0


class MemoryLimitBook:
    """`ports.ledger.LimitBook`. `away = True` takes it away; `now_s` is its clock; `taken` counts the calls."""

    def __init__(self, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._levels: dict[str, tuple[float, float]] = {}
        self._processes: dict[str, tuple[float, dict[str, tuple[int, int]]]] = {}
        self.away = False
        self.taken = 0

    async def take(self, wanted: Sequence[RateWanted]) -> Sequence[RateGranted]:
        self._answer_or_be_away()
        self.taken += 1
        return tuple(self._take(one) for one in wanted)

    async def compare(self, *, holder: str, sent: Mapping[str, TargetSent]) -> Compared:
        self._answer_or_be_away()
        now_s = self._now_s()
        others = {
            name: (seen_s, claimed)
            for name, (seen_s, claimed) in self._processes.items()
            if name != holder and now_s - seen_s < CLAIMS_S
        }
        serving = [name for name, (seen_s, _) in others.items() if now_s - seen_s < SERVES_S]
        processes = len(serving) + 1
        rooms: dict[str, tuple[int | None, int | None]] = {}
        claimed: dict[str, tuple[int, int]] = {}
        for target, one in sent.items():
            theirs = [claims.get(target, (0, 0)) for _, claims in others.values()]
            requests = _part(one.requests_per_minute, one.requests + sum(each[0] for each in theirs), processes)
            tokens = _part(one.tokens_per_minute, one.tokens + sum(each[1] for each in theirs), processes)
            rooms[target] = (requests, tokens)
            claimed[target] = (one.requests + (requests or 0), one.tokens + (tokens or 0))
        self._processes = {**others, holder: (now_s, claimed)}
        return Compared(processes=processes, place=sum(name < holder for name in serving), rooms=rooms)

    async def leave(self, *, holder: str, sent: Mapping[str, TargetSent]) -> None:
        self._answer_or_be_away()
        if holder in self._processes:
            claimed = {target: (one.requests, one.tokens) for target, one in sent.items()}
            self._processes[holder] = (min(self._processes[holder][0], self._now_s() - SERVES_S), claimed)

    def _take(self, one: RateWanted) -> RateGranted:
        now_s = self._now_s()
        level, counted_s = self._levels.get(one.name, (float(one.per_minute), now_s))
        level = min(one.per_minute, level + max(now_s - counted_s, 0.0) * one.per_minute / 60)
        amount = min(one.amount, floor(level))
        level = min(one.per_minute, level - amount)
        self._levels[one.name] = (level, now_s)
        return RateGranted(
            name=one.name,
            amount=amount,
            left=floor(level),
            full_in_s=(one.per_minute - level) * 60 / one.per_minute,
        )

    def _answer_or_be_away(self) -> None:
        if self.away:
            raise BooksAway("the books are away: try again")


def _part(most: int | None, taken: int, processes: int) -> int | None:
    return None if most is None else -(-max(most - taken, 0) // processes)
