"""Idempotency keys in memory that behave."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from app.domain.repeat import KEPT_S
from app.ports import BooksAway
from app.ports.repeats import Earlier, Mine, RepeatClaim


@dataclass(slots=True)
class _Row:
    claim: RepeatClaim
    holder: str
    claimed_s: float
    expires_s: float
    state: str = "running"
    answer: bytes | None = None


class MemoryRepeatBook:
    """`ports.repeats.RepeatBook`. `away = True` takes it away; `now_s` is its clock; `answered` are the ids of requests
    that the books hold as such; `told` counts the calls. `mute = True`: what is said is lost, and no answer comes;
    what was to be claimed then is in `late`."""

    def __init__(self, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._rows: dict[tuple[str, bytes], _Row] = {}
        self.answered: set[str] = set()
        self.away = self.mute = False
        self.late: list[tuple[RepeatClaim, str, float]] = []
        self.told = 0

    async def claim(
        self, claim: RepeatClaim, *, holder: str, for_s: float, on_sent: Callable[[], None] = lambda: None
    ) -> Mine | Earlier:
        if not self.away:
            on_sent()
        if self.mute:
            self.late.append((claim, holder, for_s))
        self._answer_or_be_away()
        now_s = self._now_s()
        known = self._rows.get((claim.key_id, claim.name))
        if known is not None and known.expires_s > now_s:
            return Earlier(
                request_id=known.claim.request_id,
                fingerprint=known.claim.fingerprint,
                is_running=known.state == "running",
                answer=known.answer,
            )
        self._rows[claim.key_id, claim.name] = _Row(claim, holder, now_s, now_s + for_s)
        was_running = known is not None and known.state == "running"
        return Mine(interrupted=known.claim.request_id if known is not None and was_running else None)

    async def finish(self, claim: RepeatClaim, *, answer: bytes | None) -> bool:
        self._answer_or_be_away()
        row = self._ours(claim)
        if row is None:
            return False
        row.state, row.answer = "told" if answer is None else "kept", answer
        row.expires_s = row.claimed_s + KEPT_S
        return True

    async def release(self, claim: RepeatClaim) -> bool:
        self._answer_or_be_away()
        if self._ours(claim) is None:
            return False
        del self._rows[claim.key_id, claim.name]
        return True

    async def close(self, holder: str) -> None:
        self._answer_or_be_away()
        for row in self._rows.values():
            if (row.holder, row.state) != (holder, "running"):
                continue
            row.expires_s = self._now_s()
            if row.claim.request_id in self.answered:
                row.state, row.expires_s = "told", row.claimed_s + KEPT_S

    async def sweep(self, *, most: int) -> int:
        self._answer_or_be_away()
        now_s = self._now_s()
        over = [name for name, row in self._rows.items() if row.claimed_s < now_s - KEPT_S and row.expires_s <= now_s]
        over = sorted(over, key=lambda name: self._rows[name].claimed_s)[:most]
        for name in over:
            del self._rows[name]
        return len(over)

    def _ours(self, claim: RepeatClaim) -> _Row | None:
        row = self._rows.get((claim.key_id, claim.name))
        is_ours = row is not None and (row.claim.request_id, row.state) == (claim.request_id, "running")
        return row if is_ours else None

    def _answer_or_be_away(self) -> None:
        self.told += 1
        if self.away or self.mute:
            raise BooksAway("the books are away: try again")
