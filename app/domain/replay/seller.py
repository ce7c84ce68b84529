"""A managed target in virtual time: the same speed for everybody, however many ask."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from math import inf

from app.domain.replay.job import Job
from app.domain.replay.speed import Pace
from app.domain.signals import SignalName


class PacedSeller:
    """First tokens after `ttft_s`, each further one `tpot_s` later. It tells nothing of its load."""

    __slots__ = ("_due", "_number", "_pace")

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        #: When, in the order of arrival, whose, and whether its first token has come already.
        self._due: list[tuple[float, int, Job, bool]] = []
        self._number = 0

    @property
    def next_s(self) -> float:
        """When a first or last token comes; infinity: nobody waits for one."""
        return self._due[0][0] if self._due else inf

    def holds(self, *, prompt_tokens: int, output_tokens: int) -> bool:
        """Whatever the policy lets through."""
        return True

    def add(self, job: Job, *, at_s: float) -> None:
        """It begins at once."""
        self._number += 1
        heappush(self._due, (at_s + self._pace.ttft_s, self._number, job, False))

    def happen(self) -> tuple[Sequence[Job], Sequence[Job]]:
        """One job's first token, its last one, or both where it has one alone."""
        at_s, number, job, begun = heappop(self._due)
        if begun:
            return (), (job,)
        if job.output_tokens <= 1:
            return (job,), (job,)
        heappush(self._due, (at_s + self._pace.tpot_s * (job.output_tokens - 1), number, job, True))
        return (job,), ()

    def numbers(self, *, at_s: float) -> dict[SignalName, float]:
        """Nothing."""
        return {}
