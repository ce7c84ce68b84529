"""The gateway's own queues: who waits for a place at a target that is full, and whose turn is next.

A queue for each target with a limit of requests in flight, made when somebody has to wait there for the first time.
It is fair between teams (`domain/fair_queue`, by tokens) and bounded: where it is full, a team with more in it makes
room for one with less. Whoever's turn has come has its place reserved until it is sent or gives it back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf
from typing import Final

from app.domain.fair_queue import FairQueue
from app.domain.routing.filters import rests
from app.domain.routing.policy import Policy
from app.domain.routing.snapshot import UNSEEN
from app.domain.target import Circuit, QueueSeen, Target, TargetSeen

#: Most requests that wait for one target where its `limits` do not say (Envoy's default of pending requests).
WAITING_MOST: Final = 1024
#: The weight of the newest answer in the mean of how long one keeps its place.
SERVICE_WEIGHT: Final = 0.1

_STOPS: Final = "this gateway process was told to stop"


class Turned(StrEnum):
    """How waiting ended, or why it did not begin."""

    SENT = "sent"
    #: The queue has no place; or had none for a team with so many in it.
    FULL = "full"
    #: The wait would have been, or was, longer than the request may wait.
    TIMEOUT = "timeout"
    #: The target rests after failures, or serves another model.
    RESTS = "rests"
    #: This process is about to stop.
    STOPS = "stops"
    LEFT = "left"


class Ticket:
    """One request in one queue. `turned` None: it waits."""

    __slots__ = ("_wake", "limit", "prompt_tokens", "target", "team", "turned", "until_s", "why")

    def __init__(
        self, target: Target, *, team: str, prompt_tokens: int, until_s: float, wake: Callable[[], None]
    ) -> None:
        self.target = target.name
        #: What it takes of the target's minute, and the monotonic time until which it may wait.
        self.prompt_tokens = prompt_tokens
        self.until_s = until_s
        #: The limit of the policy that the request was admitted with.
        self.limit = target.in_flight_most or 1
        self.team = team
        self.turned: Turned | None = None
        #: For `turned` other than SENT: a sentence.
        self.why = ""
        self._wake = wake

    def turn(self, turned: Turned, why: str = "") -> None:
        """It waits no more."""
        self.turned, self.why = turned, why
        self._wake()


@dataclass(slots=True)
class _Line:
    queue: FairQueue[Ticket]
    #: Places of those whose turn has come and who are not sent yet, and the tokens of their prompts.
    reserved: int = 0
    reserved_tokens: int = 0
    #: The mean of how long an answer keeps its place; None: nothing has ended yet.
    service_s: float | None = None


#: Stands for the line of a target that nobody has waited for yet; never changed.
_NOBODY: Final = _Line(FairQueue())


class Queues:
    """All of one process, by target. Times are handed in; nothing here waits."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._is_stopped = False
        #: How many wait, over all targets.
        self.waiting = 0

    def lengths(self) -> Mapping[str, int]:
        """How many wait, by target; of all targets that anybody has waited for."""
        return {name: len(line.queue) for name, line in self._lines.items()}

    def has_room(self, target: Target, seen: TargetSeen, *, prompt_tokens: int) -> bool:
        """A request with such a prompt may be sent there now: there is a place, nobody waits for it, and its minute has
        room. True for one without a limit of requests in flight."""
        if target.in_flight_most is None:
            return True
        line = self._lines.get(target.name, _NOBODY)
        return self._has_place(target, seen) and _fits_its_minute(line, seen, prompt_tokens=prompt_tokens)

    def _has_place(self, target: Target, seen: TargetSeen) -> bool:
        line = self._lines.get(target.name, _NOBODY)
        most = target.in_flight_most
        return not len(line.queue) and (most is None or seen.in_flight + line.reserved < _limit(most, seen))

    def met_by(self, team: str, *, fleet: Mapping[str, TargetSeen], policy: Policy) -> Mapping[str, TargetSeen]:
        """The fleet as a request of this team finds it now: full targets with their queues, as `policy` has them."""
        found: dict[str, TargetSeen] | None = None
        for name in policy.queued:
            seen, target = fleet.get(name, UNSEEN), policy.targets[name]
            if self._has_place(target, seen):
                continue
            if found is None:
                found = dict(fleet)
            found[name] = self._met(seen, target, team)
        return fleet if found is None else found

    def enter(self, ticket: Ticket, target: Target, *, cost: float) -> bool:
        """It waits from now on; False: the queue is full, and none of another team has to go for it, or this process
        stops: the ticket says which."""
        if self._is_stopped:
            ticket.turned, ticket.why = Turned.STOPS, _STOPS
            return False
        line = self._lines.get(target.name)
        if line is None:
            line = self._lines[target.name] = _Line(FairQueue())
        if self._is_full(line, target, ticket.team):
            ticket.turned, ticket.why = Turned.FULL, _full(len(line.queue), target)
            return False
        if len(line.queue) >= _most(target):
            longest = line.queue.newest_of_the_longest()
            assert longest is not None, "a full queue holds somebody"
            newest = longest[1]
            line.queue.remove(newest)
            self.waiting -= 1
            newest.turn(Turned.FULL, f"{_full(len(line.queue) + 1, target)}, most of them of this team")
        line.queue.put(ticket, flow=ticket.team, cost=cost)
        self.waiting += 1
        return True

    def leave(self, ticket: Ticket) -> None:
        """It does not wait any more, whatever it waited for; a place that was reserved for it is free again."""
        line = self._lines.get(ticket.target)
        if line is None:  # it was the last one there, and the target has left the policy
            return
        if ticket.turned is Turned.SENT:
            line.reserved -= 1
            line.reserved_tokens -= ticket.prompt_tokens
        elif line.queue.remove(ticket):
            self.waiting -= 1
            ticket.turned = Turned.LEFT

    def give_up(self, ticket: Ticket, why: str) -> None:
        """It may wait no longer. Nothing for one whose waiting has ended."""
        line = self._lines.get(ticket.target)
        if line is not None and line.queue.remove(ticket):
            self.waiting -= 1
            ticket.turn(Turned.TIMEOUT, why)

    def look(
        self,
        fleet: Mapping[str, TargetSeen],
        targets: Mapping[str, Target],
        *,
        at_s: float,
        pauses: Mapping[str, float],
    ) -> None:
        """Whoever may be sent now has its turn; whoever waits for a target that rests has to go elsewhere, unless the
        rest is one of `pauses` (which targets asked for, with the seconds left of them) and over before it may wait no
        longer. `targets` are those of the policy in force, whose limits count; one that has left it keeps its last."""
        for name, line in self._lines.items():
            if not len(line.queue):
                continue
            seen = fleet.get(name, UNSEEN)
            why = _out_of_service(seen)
            if why is not None:
                pause_s = None if seen.serves_instead else pauses.get(name)
                self._send_away(line, Turned.RESTS, why, by_s=inf if pause_s is None else at_s + pause_s)
                continue
            now = targets.get(name)
            while (ticket := line.queue.first()) is not None and _may_send(
                line, ticket, ticket.limit if now is None else now.in_flight_most, seen
            ):
                line.queue.take()
                self.waiting -= 1
                line.reserved += 1
                line.reserved_tokens += ticket.prompt_tokens
                ticket.turn(Turned.SENT)

    def stop(self) -> None:
        """From now on nobody waits: this process ends, and who waits now is turned away."""
        self._is_stopped = True
        for line in self._lines.values():
            self._send_away(line, Turned.STOPS, _STOPS)

    def answered(self, target: str, *, after_s: float) -> None:
        """A request there ended well, so long after it was sent."""
        line = self._lines.get(target)
        if line is not None:
            mean_s = after_s if line.service_s is None else line.service_s
            line.service_s = mean_s + SERVICE_WEIGHT * (after_s - mean_s)

    def wait_s(self, target: Target, seen: TargetSeen, *, team: str) -> float | None:
        """How long a request of this team would wait there; None: nothing is known of it.

        Little's law: a place becomes free each `service_s / limit`, and everybody ahead takes one; the first of them
        after half of that, as the answers under way are half through on average.
        """
        line = self._lines.get(target.name)
        if line is None or line.service_s is None:
            return None
        return (line.queue.ahead_of(team) + 0.5) * line.service_s / _limit(target.in_flight_most or 1, seen)

    def forget_others(self, names: Mapping[str, object]) -> None:
        """Only these targets are left; a queue of another is forgotten once nobody is in it."""
        for name in [name for name in self._lines if name not in names]:
            if not len(self._lines[name].queue) and not self._lines[name].reserved:
                del self._lines[name]

    def _met(self, seen: TargetSeen, target: Target, team: str) -> TargetSeen:
        line = self._lines.get(target.name)
        wait_s = self.wait_s(target, seen, team=team)
        queue = QueueSeen(
            waiting=0 if line is None else len(line.queue),
            ahead=0 if line is None else line.queue.ahead_of(team),
            predicted_wait_ms=None if wait_s is None else round(1000 * wait_s, 1),
            is_full=self._is_full(line, target, team),
        )
        ttft_ms = seen.predicted_ttft_ms
        if ttft_ms is not None and queue.predicted_wait_ms is not None:
            # A curve over as many places as the limit has reckoned with the first place that becomes free.
            has_reckoned = seen.prefill_tokens_per_s is not None and (seen.saturation is None or seen.saturation >= 1)
            part = queue.ahead / (queue.ahead + 0.5) if has_reckoned else 1.0
            # The two are learned apart; no first token comes before its turn.
            ttft_ms = round(max(ttft_ms + part * queue.predicted_wait_ms, queue.predicted_wait_ms), 1)
        reserved = 0 if line is None else line.reserved
        return replace(seen, in_flight=seen.in_flight + reserved, predicted_ttft_ms=ttft_ms, queue=queue)

    def _is_full(self, line: _Line | None, target: Target, team: str) -> bool:
        """No place is left, and no other team has so many in it that the newest of them should go for this one."""
        waiting = 0 if line is None else len(line.queue)
        if waiting < _most(target):
            return False
        longest = None if line is None else line.queue.newest_of_the_longest()
        return line is None or longest is None or line.queue.waiting(team) + 1 >= line.queue.waiting(longest[0])

    def _send_away(self, line: _Line, turned: Turned, why: str, *, by_s: float = inf) -> None:
        """Whoever may wait until `by_s` at the longest; without it everybody."""
        for ticket in line.queue:
            if ticket.until_s <= by_s:
                line.queue.remove(ticket)
                self.waiting -= 1
                ticket.turn(turned, why)


def _may_send(line: _Line, ticket: Ticket, in_flight_most: int | None, seen: TargetSeen) -> bool:
    """There is a place for it, and its minute has room. A target that comes back from a rest is sent one, which proves
    it."""
    if not _fits_its_minute(line, seen, prompt_tokens=ticket.prompt_tokens):
        return False
    if seen.circuit is Circuit.HALF_OPEN and line.reserved:
        return False
    return in_flight_most is None or seen.in_flight + line.reserved < _limit(in_flight_most, seen)


def _fits_its_minute(line: _Line, seen: TargetSeen, *, prompt_tokens: int) -> bool:
    """What is left of the minute's limits is enough for such a prompt beside those whose turn has come."""
    if seen.requests_left is not None and seen.requests_left <= line.reserved:
        return False
    return seen.tokens_left is None or seen.tokens_left >= line.reserved_tokens + prompt_tokens


def _limit(in_flight_most: int, seen: TargetSeen) -> int:
    return in_flight_most if seen.share is None else seen.share


def _most(target: Target) -> int:
    return WAITING_MOST if target.waiting_most is None else target.waiting_most


def _full(waiting: int, target: Target) -> str:
    return f"{waiting} requests wait for it and its limit is {_most(target)}"


def _out_of_service(seen: TargetSeen) -> str | None:
    if seen.serves_instead:
        return f"it serves {seen.serves_instead} instead"
    return rests(seen)
