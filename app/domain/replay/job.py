"""A request at a target in virtual time: who hears of it, and what a target has to be able to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from app.domain.errors import TargetFailure
from app.domain.signals import SignalName


class Answering(Protocol):
    """One admitted request, as the gateway keeps it. Times are virtual seconds."""

    def sent(self, target: str, *, at_s: float) -> None:
        """An attempt begins at this target."""
        ...

    def failed(self, failure: TargetFailure, *, at_s: float) -> None:
        """The attempt that began last is over, and another may follow."""
        ...

    def first_token(self, *, at_s: float) -> None: ...

    def ended(self, *, at_s: float) -> None:
        """The last token came."""
        ...

    def gave_up(self, *, at_s: float) -> None:
        """After the failures that were told no attempt follows."""
        ...


class Job:
    """The part of a request that a target works on. `prompt_left` is what is still to be computed of its prompt."""

    __slots__ = ("output_tokens", "prompt_left", "prompt_tokens", "request", "target")

    def __init__(self, request: Answering, *, target: str, prompt_tokens: int, output_tokens: int) -> None:
        self.request = request
        self.target = target
        self.prompt_tokens = prompt_tokens
        self.prompt_left = prompt_tokens
        self.output_tokens = output_tokens

    @property
    def tokens(self) -> int:
        """What it fills of a KV cache at its end."""
        return self.prompt_tokens + self.output_tokens


class SimulatedTarget(Protocol):
    """A place that answers in virtual time. Times given to it never run back."""

    @property
    def next_s(self) -> float:
        """When something happens there next if nobody else comes; infinity: it has nothing to do."""
        ...

    def holds(self, *, prompt_tokens: int, output_tokens: int) -> bool:
        """Such a request can be answered there at all."""
        ...

    def add(self, job: Job, *, at_s: float) -> None: ...

    def happen(self) -> tuple[Sequence[Job], Sequence[Job]]:
        """What happens at `next_s`: the jobs whose first token comes then, and those whose last one does."""
        ...

    def numbers(self, *, at_s: float) -> dict[SignalName, float]:
        """What it would tell of its load; empty: nothing."""
        ...
