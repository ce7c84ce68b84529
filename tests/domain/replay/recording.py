"""Requests that write down what happens to them, and what a simulated target does until it is idle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from app.domain.errors import TargetFailure
from app.domain.replay.job import Answering, Job, SimulatedTarget


@dataclass(eq=False)
class Recorded(Answering):
    """What a request was told, in virtual seconds."""

    sent_to: list[str] = field(default_factory=list)
    failures: list[TargetFailure] = field(default_factory=list)
    first_s: float | None = None
    ended_s: float | None = None
    gave_up_s: float | None = None

    def sent(self, target: str, *, at_s: float) -> None:
        self.sent_to.append(target)

    def failed(self, failure: TargetFailure, *, at_s: float) -> None:
        self.failures.append(failure)

    def first_token(self, *, at_s: float) -> None:
        assert self.first_s is None, "there is one first token"
        self.first_s = at_s

    def ended(self, *, at_s: float) -> None:
        assert self.first_s is not None
        assert self.ended_s is None, "an answer ends once"
        self.ended_s = at_s

    def gave_up(self, *, at_s: float) -> None:
        self.gave_up_s = at_s

    @property
    def times(self) -> tuple[float, float]:
        assert self.first_s is not None
        assert self.ended_s is not None
        return self.first_s, self.ended_s


def answered(target: SimulatedTarget, asked: Iterable[tuple[float, int, int]]) -> list[Recorded]:
    """Requests at their times, of so many prompt and output tokens, each with what became of it."""
    requests = []
    for at_s, prompt, output in asked:
        happen_until(target, at_s)
        requests.append(Recorded())
        target.add(Job(requests[-1], target="it", prompt_tokens=prompt, output_tokens=output), at_s=at_s)
    happen_until(target, inf)
    return requests


def happen_until(target: SimulatedTarget, until_s: float) -> None:
    """All that happens there up to that moment, that one included."""
    while (now_s := target.next_s) <= until_s and now_s < inf:
        begun, ended = target.happen()
        for job in begun:
            job.request.first_token(at_s=now_s)
        for job in ended:
            job.request.ended(at_s=now_s)
