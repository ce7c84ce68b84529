"""An engine with continuous batching, in virtual time.

A step is composed when it begins: sequences whose prompts are not computed yet go on, in order of arrival, as far as
the step's tokens reach; then waiting ones are let in, first come first served, while a place, room in the KV cache and
tokens of the step are left; every decoding sequence gets one token. The step takes tau(n) for the n decoding ones and
what its prompt tokens take besides (`EngineSpeed`). A prompt whose last part was computed has its first token at the
end of that step. Who arrives at the beginning of a step or in the middle of it waits for its end.

This is how vLLM schedules with chunked prefill. What it leaves out: prefix caches, preemption (a sequence is let in
once all of it fits the cache) and CPU time between steps. Steps that are alike are taken as one run, so that an answer
of a thousand tokens costs no more than a short one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush
from math import inf
from typing import Final

from app.domain.replay.job import Job
from app.domain.replay.speed import EngineSpeed
from app.domain.signals import SignalName

#: A moment that is so near before the end of a step, in parts of a step, is its end, and too late for the next one.
_NEARLY: Final = 1e-9


class BatchingEngine:
    """One engine; see above."""

    __slots__ = (
        "_began_s",
        "_decoding",
        "_itl_count",
        "_itl_sum_s",
        "_kv_tokens",
        "_number",
        "_planned",
        "_prefilling",
        "_reading",
        "_speed",
        "_step_s",
        "_steps",
        "_waiting",
    )

    def __init__(self, speed: EngineSpeed) -> None:
        self._speed = speed
        self._waiting: deque[Job] = deque()
        #: Let in, and their prompts are not computed yet.
        self._prefilling: deque[Job] = deque()
        #: The step after which each ends, its number in the order of beginning, and itself.
        self._decoding: list[tuple[int, int, Job]] = []
        self._number = 0
        #: Steps that are over.
        self._steps = 0
        #: The run under way: when it began, how long each of its steps takes, and how many they are; 0: idle.
        self._began_s = 0.0
        self._step_s = 0.0
        self._planned = 0
        #: Of the step under way: those whose prompts are computed in it, and how much of each.
        self._reading: list[tuple[Job, int]] = []
        self._kv_tokens = 0
        self._itl_sum_s = 0.0
        self._itl_count = 0

    @property
    def next_s(self) -> float:
        """When its run ends; infinity: it is idle."""
        return self._began_s + self._planned * self._step_s if self._planned else inf

    def holds(self, *, prompt_tokens: int, output_tokens: int) -> bool:
        """Its KV cache has room for the whole of it."""
        kv_tokens = self._speed.kv_tokens
        return kv_tokens is None or prompt_tokens + output_tokens <= kv_tokens

    def add(self, job: Job, *, at_s: float) -> None:
        """The job waits until a step begins that has room for it."""
        self._waiting.append(job)
        if not self._planned:
            self._compose(at_s)
        elif self._planned > 1 and len(self._waiting) == 1 and self._has_room(job):
            self._planned = min(self._planned, int((at_s - self._began_s) / self._step_s + _NEARLY) + 1)

    def happen(self) -> tuple[Sequence[Job], Sequence[Job]]:
        """The run under way ends, and the next one is composed."""
        at_s = self.next_s
        decoded = len(self._decoding) * self._planned
        self._itl_count += decoded
        self._itl_sum_s += decoded * self._step_s
        self._steps += self._planned
        ended = []
        while self._decoding and self._decoding[0][0] <= self._steps:
            ended.append(heappop(self._decoding)[2])
        begun = self._read()
        for job in begun:
            if job.output_tokens <= 1:
                ended.append(job)
                continue
            self._number += 1
            heappush(self._decoding, (self._steps + job.output_tokens - 1, self._number, job))
        self._kv_tokens -= sum(job.tokens for job in ended)
        self._compose(at_s)
        return begun, ended

    def numbers(self, *, at_s: float) -> dict[SignalName, float]:
        """As its page of figures would have them at `at_s`."""
        decoded = len(self._decoding) * self._steps_over(at_s)
        told: dict[SignalName, float] = {
            SignalName.RUNNING: len(self._decoding) + len(self._prefilling),
            SignalName.WAITING: len(self._waiting),
            SignalName.SLOTS: self._speed.sequences_most,
            SignalName.ITL_SUM_S: self._itl_sum_s + decoded * self._step_s,
            SignalName.ITL_COUNT: self._itl_count + decoded,
        }
        if self._speed.kv_tokens is not None:
            told[SignalName.KV_CAPACITY_TOKENS] = self._speed.kv_tokens
            told[SignalName.KV_USAGE] = self._kv_tokens / self._speed.kv_tokens
        return told

    def _steps_over(self, at_s: float) -> int:
        """Of the run under way."""
        if not self._planned:
            return 0
        return min(self._planned, max(0, int((at_s - self._began_s) / self._step_s)))

    def _read(self) -> list[Job]:
        """Prompts go on by what the step computed of them; those that are whole now."""
        begun = []
        for job, tokens in self._reading:
            job.prompt_left -= tokens
            if not job.prompt_left:
                begun.append(job)
        if begun:
            self._prefilling = deque(job for job in self._prefilling if job.prompt_left)
        self._reading = []
        return begun

    def _compose(self, at_s: float) -> None:
        """The next run begins at `at_s`."""
        decoding = len(self._decoding)
        left = most = max(1, self._speed.step_tokens - decoding)
        for job in self._prefilling:
            left -= self._compute(job, most=left)
            if not left:
                break
        while self._waiting and left and self._has_room(self._waiting[0]):
            job = self._waiting.popleft()
            self._prefilling.append(job)
            self._kv_tokens += job.tokens
            left -= self._compute(job, most=left)
        self._began_s = at_s
        self._step_s = self._speed.step_with_s(decoding) + (most - left) / self._speed.prefill_tokens_per_s
        if self._reading:
            self._planned = 1
        else:
            self._planned = self._decoding[0][0] - self._steps if self._decoding else 0

    def _compute(self, job: Job, *, most: int) -> int:
        tokens = min(job.prompt_left, most)
        self._reading.append((job, tokens))
        return tokens

    def _has_room(self, job: Job) -> bool:
        speed = self._speed
        if len(self._decoding) + len(self._prefilling) >= speed.sequences_most:
            return False
        return speed.kv_tokens is None or self._kv_tokens + job.tokens <= speed.kv_tokens
