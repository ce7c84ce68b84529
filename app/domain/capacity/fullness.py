"""Whether an engine is full, from what it tells at a poll: how many run there and how many wait.

That somebody waits at a poll says little. Whoever came during a step waits for its end, even at an idle engine; where
prompts are long and many, whoever waits is let in with one of the next steps. An engine is full when requests wait and
steps pass by without letting them in: because all its places are taken, or because its memory is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

#: So many steps that let nobody in, although somebody waits, tell a full engine from one that is about to let in.
STEPS_TO_BELIEVE: Final = 4.0
#: An engine whose memory is used to this share may let nobody in for that reason.
MEMORY_FULL: Final = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """What an engine told at one moment. Totals are since its start; None: it does not tell that."""

    running: int
    waiting: int
    #: Tokens that it has made in all.
    tokens: float | None = None
    #: Requests whose first token has come, in all.
    begun: float | None = None
    #: 0 to 1.
    memory_used: float | None = None


NOBODY: Final = Poll(running=0, waiting=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fullness:
    """What the polls of one engine say together; each makes the next one."""

    last: Poll = NOBODY
    #: How many ran at the most since somebody waits at every poll.
    most_running: int = 0
    #: Steps that let nobody in since then, and since more ran than ever before.
    steps: float = 0.0
    #: With so many it was full for want of places; None: it never was.
    full_with: int | None = None

    def after(self, poll: Poll) -> Fullness:
        """With one poll more."""
        if _began_anew(self.last, poll):
            return Fullness(last=poll, most_running=poll.running)
        most, steps = self._steps_in_vain(poll)
        full_with = self.full_with
        if full_with is not None:
            full_with = max(full_with, poll.running)
        elif steps >= STEPS_TO_BELIEVE and not _memory_is_full(poll):
            full_with = max(1, most)
        return replace(self, last=poll, most_running=most, steps=steps, full_with=full_with)

    def after_a_gap(self) -> Fullness:
        """Polls were missed: what waited at the last one is not what waits at the next."""
        return replace(self, last=replace(self.last, waiting=0), steps=0.0)

    def places(self, *, slots: int | None) -> int | None:
        """How many it works on at once: `slots`, which it or the policy says, else with how many it was full; fewer
        while it is full with fewer. None: nothing is known of a limit."""
        most = self.full_with if slots is None else slots
        full_with = self._full_now()
        if full_with is None:
            return most
        return full_with if most is None else min(most, full_with)

    def _full_now(self) -> int | None:
        if not self.last.waiting:
            return None
        if _memory_is_full(self.last):
            return max(1, self.last.running)
        return max(1, self.most_running) if self.steps >= STEPS_TO_BELIEVE else None

    def _steps_in_vain(self, poll: Poll) -> tuple[int, float]:
        """`most_running` and `steps` after this poll."""
        before = self.last
        if not (before.waiting and poll.waiting) or poll.running > self.most_running:
            return poll.running, 0.0
        if poll.begun is not None and before.begun is not None and poll.begun - before.begun >= before.waiting:
            return poll.running, 0.0  # as many began as waited: these are others
        most = max(1, self.most_running)
        if poll.tokens is None or before.tokens is None:
            return self.most_running, self.steps + 1
        return self.most_running, self.steps + (poll.tokens - before.tokens) / most


def _began_anew(before: Poll, now: Poll) -> bool:
    """Its totals went back: it was started again, perhaps with another number of places."""
    pairs = ((before.tokens, now.tokens), (before.begun, now.begun))
    return any(old is not None and new is not None and new < old for old, new in pairs)


def _memory_is_full(poll: Poll) -> bool:
    return poll.memory_used is not None and poll.memory_used >= MEMORY_FULL
