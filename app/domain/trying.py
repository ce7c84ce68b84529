"""After an attempt that failed: who is asked next, and after which pause. Decides; whoever calls waits and asks.

A fault of the request itself ends the walk; a prompt that was too long goes on to larger contexts alone. Candidates
that were not asked yet come first, at once. With none left, one that failed in passing is asked once more.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from app.domain.errors import FaultKind, TargetFailure
from app.domain.target import Target

#: So often a request asks targets again that failed it already.
REPEATS_MOST: Final = 1
#: Before asking again: at least so long, and up to twice as long, so that those who failed together come back apart.
REPEAT_AFTER_S: Final = 0.1
#: A request waits no longer than this for a target that asks for a pause.
PAUSE_MOST_S: Final = 10.0

#: Faults that may be gone at the next try, and that cost nothing. A rate limit is asked again only where the target
#: says when.
_PASSING: Final = frozenset({FaultKind.SERVER_ERROR, FaultKind.OVERLOADED, FaultKind.REFUSED_CONNECTION})


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """The next attempt: at whom, and after how many seconds. `again`: this target has failed the request before."""

    target: str
    pause_s: float = 0.0
    again: bool = False


def next_try(
    order: Sequence[str],
    failures: Sequence[TargetFailure],
    *,
    attempts_most: int,
    targets: Mapping[str, Target],
    resting: Container[str],
    jitter: float,
    left_s: float,
) -> Try | None:
    """What follows these failures, one for each attempt so far; None: the last of them stands.

    `resting` are targets whose circuits have opened since the plan was made. `jitter` is 0 to 1, `left_s` what is left
    of the request's own time.
    """
    if not failures:
        return Try(target=order[0])
    last = failures[-1]
    if len(failures) >= attempts_most or not last.another_may_serve:
        return None
    asked = {failure.target for failure in failures}
    too_long = _largest_too_small(failures, targets)
    for name in order:
        if name not in asked and name not in resting and _is_larger(targets[name], than=too_long):
            return Try(target=name)
    if too_long is not None or len(failures) - len(asked) >= REPEATS_MOST:
        return None
    # One that rests may be asked where it named the pause itself: its circuit lets a probe through after just that.
    may_repeat = [
        failure
        for failure in failures
        if failure.target in order and (failure.retry_after_s or failure.target not in resting)
    ]
    return _again(may_repeat, jitter=jitter, left_s=left_s)


def _largest_too_small(failures: Sequence[TargetFailure], targets: Mapping[str, Target]) -> float | None:
    """The largest context that was too small for the prompt; infinity where a target did not say its own."""
    sizes = [
        targets[failure.target].context_tokens or inf
        for failure in failures
        if failure.kind is FaultKind.CONTEXT_OVERFLOW
    ]
    return max(sizes) if sizes else None


def _is_larger(target: Target, *, than: float | None) -> bool:
    """A target that does not say how much it holds is tried."""
    return than is None or target.context_tokens is None or target.context_tokens > than


def _again(failures: Sequence[TargetFailure], *, jitter: float, left_s: float) -> Try | None:
    pauses = {failure.target: pause for failure in failures if (pause := _pause_s(failure, jitter)) is not None}
    if not pauses:
        return None
    target = min(pauses, key=lambda name: (pauses[name], name))
    if pauses[target] > min(PAUSE_MOST_S, left_s):
        return None
    return Try(target=target, pause_s=pauses[target], again=True)


def _pause_s(failure: TargetFailure, jitter: float) -> float | None:
    """How long before this target may be asked again; None: not within this request."""
    if failure.kind in _PASSING:
        return max(failure.retry_after_s or 0.0, REPEAT_AFTER_S) + REPEAT_AFTER_S * jitter
    if failure.kind is FaultKind.RATE_LIMITED and failure.retry_after_s:
        return failure.retry_after_s + REPEAT_AFTER_S * jitter
    return None
