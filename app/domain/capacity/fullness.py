"""Whether an engine is full, from what it tells at a poll: how many run there and how many wait.

That somebody waits at a poll says little. Whoever came during a step waits for its end, even at an idle engine; where
prompts are long and many, whoever waits is let in with one of the next steps. An engine is full when requests wait and
steps pass by without letting them in: because all its places are taken, or because its memory is.

What was learned so may be too low (a long prompt was computed meanwhile, a neighbour held its memory), and whoever
sends no more than that never learns better. So a place more is tried from time to time: who is sent to it runs there,
and it is one; or waits, and it is none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

#: So many steps that let nobody in, although somebody waits, tell a full engine from one that is about to let in.
STEPS_TO_BELIEVE: Final = 4.0
#: So many steps at all the places that it is believed to have, while nobody waits, and it may have one more.
STEPS_TO_DOUBT: Final = 1_000.0
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
    proven: int | None = None
    #: One place more that it may have: 0 or 1, until who is sent there runs, or waits in vain.
    tried: int = 0
    #: Steps at all of the proven places while nobody waited, since one more was tried.
    unproven_steps: float = 0.0

    @property
    def full_with(self) -> int | None:
        """With so many it is full for want of places, as far as is known; None: it never was."""
        return None if self.proven is None else self.proven + self.tried

    def after(self, poll: Poll) -> Fullness:
        """With one poll more."""
        if _began_anew(self.last, poll):
            return Fullness(last=poll, most_running=poll.running)
        most, steps = self._steps_in_vain(poll)
        seen = replace(self, last=poll, most_running=most, steps=steps)
        if self.proven is not None and poll.running > self.proven:
            return replace(seen, proven=poll.running, tried=0, unproven_steps=0.0)
        if steps >= STEPS_TO_BELIEVE and not _memory_is_full(poll):
            proven = max(1, most) if self.proven is None else self.proven
            return replace(seen, proven=proven, tried=0, unproven_steps=0.0)
        return seen if self.proven is None else seen._doubting(self.last, proven=self.proven)

    def after_a_gap(self) -> Fullness:
        """Polls were missed: what ran and waited at the last one is not what does at the next."""
        return replace(self, last=replace(self.last, running=0, waiting=0), steps=0.0)

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

    def _doubting(self, before: Poll, *, proven: int) -> Fullness:
        """With one place more, if all that it is proven to have were taken for long and nobody waited."""
        now = self.last
        if self.tried or now.waiting or before.waiting or min(now.running, before.running) < proven:
            return self
        steps = self.unproven_steps + _steps(before, now, running=proven)
        if steps < STEPS_TO_DOUBT:
            return replace(self, unproven_steps=steps)
        return replace(self, tried=1, unproven_steps=0.0)

    def _steps_in_vain(self, poll: Poll) -> tuple[int, float]:
        """`most_running` and `steps` after this poll."""
        before = self.last
        if not (before.waiting and poll.waiting) or poll.running > self.most_running:
            return poll.running, 0.0
        if poll.begun is not None and before.begun is not None and poll.begun - before.begun >= before.waiting:
            return poll.running, 0.0  # as many began as waited: these are others
        return self.most_running, self.steps + _steps(before, poll, running=max(1, self.most_running))


def _steps(before: Poll, now: Poll, *, running: int) -> float:
    """Steps from one poll to the next, in which each of `running` gets a token; one, where tokens are not told."""
    if now.tokens is None or before.tokens is None:
        return 1.0
    return (now.tokens - before.tokens) / running


def _began_anew(before: Poll, now: Poll) -> bool:
    """Its totals went back: it was started again, perhaps with another number of places."""
    pairs = ((before.tokens, now.tokens), (before.begun, now.begun))
    return any(old is not None and new is not None and new < old for old, new in pairs)


def _memory_is_full(poll: Poll) -> bool:
    return poll.memory_used is not None and poll.memory_used >= MEMORY_FULL
