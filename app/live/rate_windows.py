"""What this process sent to one target within the last minute, beside what its seller allows."""

from __future__ import annotations

from app.domain.target import Target
from app.live.rolling import RollingSum

MINUTE_S = 60.0
#: A minute is counted in steps of so many seconds: the limit holds for any 60 seconds, and room comes back up to one
#: step late.
STEP_S = 5.0


class RateWindow:
    """Requests count when they are sent, tokens by the prompt's estimate then, and by what was used at the end."""

    __slots__ = ("_requests", "_requests_most", "_tokens", "_tokens_most")

    def __init__(self) -> None:
        self._requests = RollingSum(span_s=MINUTE_S, step_s=STEP_S)
        self._tokens = RollingSum(span_s=MINUTE_S, step_s=STEP_S)
        self._requests_most: int | None = None
        self._tokens_most: int | None = None

    def follow(self, target: Target) -> None:
        """These are the limits from now on; what was counted stays."""
        self._requests_most, self._tokens_most = target.requests_per_minute, target.tokens_per_minute

    def sent(self, *, prompt_tokens: int, at_s: float) -> None:
        """A request goes out."""
        self._requests.add(1, at_s=at_s)
        self._tokens.add(prompt_tokens, at_s=at_s)

    def corrected(self, *, tokens: int, at_s: float) -> None:
        """A request took so many tokens more than its prompt's estimate; fewer, when negative."""
        self._tokens.add(tokens, at_s=at_s)

    def requests_left(self, *, at_s: float) -> int | None:
        """None: no limit."""
        return _left(self._requests, self._requests_most, at_s=at_s)

    def tokens_left(self, *, at_s: float) -> int | None:
        """None: no limit."""
        return _left(self._tokens, self._tokens_most, at_s=at_s)

    def changes_after_s(self, *, at_s: float) -> float:
        """When something is left again although nothing happens; infinity when nothing was sent lately."""
        return min(self._requests.changes_after_s(at_s=at_s), self._tokens.changes_after_s(at_s=at_s))


def _left(counted: RollingSum, most: int | None, *, at_s: float) -> int | None:
    return None if most is None else max(most - counted.total(at_s=at_s), 0)
