"""What was sent to one target within the last minute, beside what its seller allows.

A process counts what it sent itself, exactly, and keeps to the room that it was given beside the other processes: so
all of them together send no more than is allowed, however late they hear of one another.
"""

from __future__ import annotations

from app.domain.target import Target
from app.live.rolling import RollingSum
from app.ports.ledger import TargetSent

MINUTE_S = 60.0
#: A minute is counted in steps of so many seconds: the limit holds for any 60 seconds, and room comes back up to one
#: step late.
STEP_S = 5.0


class RateWindow:
    """Requests count when they are sent, tokens by the prompt's estimate then, and by what was used at the end."""

    __slots__ = (
        "_processes",
        "_rank",
        "_requests",
        "_requests_most",
        "_requests_room",
        "_requests_since",
        "_tokens",
        "_tokens_most",
        "_tokens_room",
        "_tokens_since",
    )

    def __init__(self) -> None:
        self._requests = RollingSum(span_s=MINUTE_S, step_s=STEP_S)
        self._tokens = RollingSum(span_s=MINUTE_S, step_s=STEP_S)
        self._requests_most: int | None = None
        self._tokens_most: int | None = None
        #: What this process may still send until it hears of the others again; None: nothing is known of any other.
        self._requests_room: int | None = None
        self._tokens_room: int | None = None
        #: What went out since it was last said what was sent.
        self._requests_since = 0
        self._tokens_since = 0
        #: How many processes share the limits, and which of them this is, from 0.
        self._processes = 1
        self._rank = 0

    def follow(self, target: Target) -> None:
        """These are the limits from now on; what was counted stays."""
        self._requests_most, self._tokens_most = target.requests_per_minute, target.tokens_per_minute

    def sent(self, *, prompt_tokens: int, at_s: float) -> None:
        """A request goes out."""
        self._requests.add(1, at_s=at_s)
        self._tokens.add(prompt_tokens, at_s=at_s)
        self._requests_since += 1
        self._tokens_since += prompt_tokens
        if self._requests_room is not None:
            self._requests_room -= 1
        if self._tokens_room is not None:
            self._tokens_room -= prompt_tokens

    def corrected(self, *, tokens: int, at_s: float) -> None:
        """A request took so many tokens more than its prompt's estimate; fewer, when negative."""
        self._tokens.add(tokens, at_s=at_s)
        self._tokens_since += tokens
        if self._tokens_room is not None:
            self._tokens_room -= tokens

    def sent_so_far(self, *, at_s: float) -> TargetSent:
        """What this process sent within the last minute, and the limits; the next `compared` answers it."""
        self._requests_since = self._tokens_since = 0
        return TargetSent(
            requests=self._requests.total(at_s=at_s),
            tokens=self._tokens.total(at_s=at_s),
            requests_per_minute=self._requests_most,
            tokens_per_minute=self._tokens_most,
        )

    def compared(self, *, rooms: tuple[int | None, int | None], processes: int, place: int) -> None:
        """Until it compares again this process may send so many more requests and tokens; `processes` share the limits,
        this one is number `place`."""
        self._processes, self._rank = processes, place
        requests, tokens = rooms
        self._requests_room = None if requests is None else requests - self._requests_since
        self._tokens_room = None if tokens is None else tokens - self._tokens_since

    def parted(self) -> None:
        """Nothing is heard of the others any more: keep to this process's share of the limits."""
        self._requests_room = self._tokens_room = None

    def requests_left(self, *, at_s: float) -> int | None:
        """None: no limit."""
        return self._left(self._requests, self._requests_most, self._requests_room, at_s=at_s)

    def tokens_left(self, *, at_s: float) -> int | None:
        """None: no limit."""
        return self._left(self._tokens, self._tokens_most, self._tokens_room, at_s=at_s)

    def changes_after_s(self, *, at_s: float) -> float:
        """When something is left again although nothing happens; infinity when nothing was sent lately."""
        return min(self._requests.changes_after_s(at_s=at_s), self._tokens.changes_after_s(at_s=at_s))

    def _left(self, counted: RollingSum, most: int | None, room: int | None, *, at_s: float) -> int | None:
        if most is None:
            return None
        if room is not None:
            return max(min(room, most - counted.total(at_s=at_s)), 0)
        return max(self._share(most) - counted.total(at_s=at_s), 0)

    def _share(self, whole: int) -> int:
        """The first processes have one more where it does not divide, so that nothing is left over."""
        return whole // self._processes + (self._rank < whole % self._processes)
