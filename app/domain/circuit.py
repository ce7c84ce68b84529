"""Circuits: what fails rests, and one probe decides when it may serve again.

Each target has one, and so has each credential, as an account without money fails at all its targets. What a fault says
of either stands in `CONDUCT`. A rest grows while probes fail. Where nobody else can serve, a resting target is asked
now and then all the same (`is_last_resort`), so that an outage of everything ends soon after its cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from app.domain.errors import FaultKind
from app.domain.target import Circuit

#: Strikes that open a circuit. Five server errors in a row do (Envoy's default for consecutive 5xx).
STRIKES_TO_OPEN: Final = 10
#: How long an open circuit rests before one probe is let through; twice as long after each probe that fails.
REST_S: Final = 5.0
REST_MOST_S: Final = 60.0
#: A pause that a target itself asks for (Retry-After) is believed this far.
ASKED_REST_MOST_S: Final = 300.0
#: A probe that is not back after so long, or after a rest if that is longer, is lost: another may go.
PROBE_LOST_S: Final = 5.0
#: A resting target that is the last resort is asked so often.
LAST_RESORT_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """What one fault means for whom it happened at. `of_account`: the credential's circuit is meant, where there is
    one. `last_resort`: worth asking during a rest when nobody else can serve."""

    strikes: int
    rest_s: float = REST_S
    rest_most_s: float = REST_MOST_S
    of_account: bool = False
    last_resort: bool = True


_FAILED: Final = Conduct(strikes=2)
_NOBODY_THERE: Final = Conduct(strikes=5)
#: Nothing came, for nobody, as long as one request waited: an engine that hangs while its health page says yes.
STALLED: Final = Conduct(strikes=STRIKES_TO_OPEN)

#: A fault that is not here says something of one request, not of its target.
CONDUCT: Final[Mapping[FaultKind, Conduct]] = {
    FaultKind.REFUSED_CONNECTION: _NOBODY_THERE,
    FaultKind.CONNECT_TIMEOUT: _NOBODY_THERE,
    FaultKind.FIRST_TOKEN_TIMEOUT: _FAILED,
    FaultKind.IDLE_TIMEOUT: _FAILED,
    FaultKind.CUT: _FAILED,
    FaultKind.INVALID_ANSWER: _FAILED,
    FaultKind.SERVER_ERROR: _FAILED,
    FaultKind.NOT_FOUND: Conduct(strikes=5, rest_s=10.0),
    FaultKind.OVERLOADED: Conduct(strikes=2, rest_s=1.0, rest_most_s=10.0),
    FaultKind.RATE_LIMITED: Conduct(strikes=5, rest_s=1.0, last_resort=False),
    FaultKind.AUTH: Conduct(
        strikes=STRIKES_TO_OPEN, rest_s=30.0, rest_most_s=600.0, of_account=True, last_resort=False
    ),
    FaultKind.MONEY_GONE: Conduct(
        strikes=STRIKES_TO_OPEN, rest_s=300.0, rest_most_s=3600.0, of_account=True, last_resort=False
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """One record of failures. Times are of one monotonic clock, in seconds."""

    strikes: int = 0
    #: How often in a row it was opened; 0: it is closed.
    rests: int = 0
    opened_s: float = 0.0
    rest_s: float = 0.0
    #: The fault that opened it, and whether the target may be asked while it rests.
    cause: FaultKind | None = None
    last_resort: bool = False
    #: The target asked for this rest itself.
    asked: bool = False
    probing_since_s: float | None = None

    def state(self, *, at_s: float) -> Circuit:
        """Open while resting or while a probe is out; half-open when a probe may go."""
        if not self.rests:
            return Circuit.CLOSED
        rested = at_s - self.opened_s >= self.rest_s
        return Circuit.HALF_OPEN if rested and not self._is_probed(at_s) else Circuit.OPEN

    def is_last_resort(self, *, at_s: float) -> bool:
        """It is open, yet may be asked when nobody else can serve."""
        is_due = self.last_resort and at_s - self.opened_s >= LAST_RESORT_S
        return bool(self.rests) and is_due and not self._is_probed(at_s)

    def pause_left_s(self, *, at_s: float) -> float | None:
        """What is left of a rest that the target asked for, 0 while its probe is out; None: it does not rest so."""
        if not self.asked or self.state(at_s=at_s) is not Circuit.OPEN:
            return None
        return max(0.0, self.opened_s + self.rest_s - at_s)

    def dispatched(self, *, at_s: float) -> Breaker:
        """A request went there; on an open circuit it is the probe."""
        return replace(self, probing_since_s=at_s) if self.rests else self

    def let_go(self) -> Breaker:
        """A request ended and said nothing of the target: its caller left. If it was the probe, another may go."""
        return replace(self, probing_since_s=None)

    def failed(
        self,
        kind: FaultKind,
        conduct: Conduct,
        *,
        at_s: float,
        began_s: float | None = None,
        asked_s: float | None = None,
    ) -> Breaker:
        """One more failure, of a request that began then. `asked_s`: a pause that the target asked for, which opens the
        circuit at once.

        What was under way when the circuit opened says nothing new; a probe that fails lengthens the next rest, unless
        it was sent before the rest was over.
        """
        rests = self.rests
        strikes = self.strikes + (STRIKES_TO_OPEN if asked_s else conduct.strikes)
        if rests:
            if self.probing_since_s is None or (began_s is not None and began_s < self.probing_since_s):
                return self
            rests += self.probing_since_s - self.opened_s >= self.rest_s
        elif strikes < STRIKES_TO_OPEN:
            return replace(self, strikes=strikes)
        else:
            rests = 1
        grown_s = min(conduct.rest_s * 2.0 ** min(rests - 1, 16), conduct.rest_most_s)
        return Breaker(
            strikes=strikes,
            rests=rests,
            opened_s=at_s,
            rest_s=grown_s if not asked_s else min(asked_s, ASKED_REST_MOST_S),
            cause=kind,
            last_resort=conduct.last_resort and not asked_s,
            asked=bool(asked_s),
        )

    def _is_probed(self, at_s: float) -> bool:
        since_s = self.probing_since_s
        return since_s is not None and at_s - since_s < max(self.rest_s, PROBE_LOST_S)


CLOSED: Final = Breaker()
