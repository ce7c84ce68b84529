"""A circuit: rest a target that fails, and let one probe decide when it may serve again."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.domain.target import Circuit

#: Failures in a row that open a circuit (Envoy's default for consecutive 5xx).
FAILURES_TO_OPEN = 5
#: How long an open circuit rests before one probe is let through.
REST_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """One target's record of failures. Times are of one monotonic clock, in seconds."""

    failures: int = 0
    opened_s: float | None = None
    probing_since_s: float | None = None

    def state(self, *, at_s: float) -> Circuit:
        """Open while resting or while a probe is out; half-open when a probe may go."""
        if self.opened_s is None:
            return Circuit.CLOSED
        if self.probing_since_s is not None and at_s - self.probing_since_s < REST_S:
            return Circuit.OPEN
        return Circuit.HALF_OPEN if at_s - self.opened_s >= REST_S else Circuit.OPEN

    def dispatched(self, *, at_s: float) -> Breaker:
        """A request went there; on a half-open circuit it is the probe. A lost probe is forgotten after a rest."""
        return self if self.opened_s is None else replace(self, probing_since_s=at_s)

    def failed(self, *, at_s: float) -> Breaker:
        """The target failed: one more in a row; from the limit on, the rest begins anew."""
        failures = self.failures + 1
        opened = at_s if failures >= FAILURES_TO_OPEN else self.opened_s
        return Breaker(failures=failures, opened_s=opened)

    def succeeded(self) -> Breaker:
        """The target answered: the record is clean."""
        return CLOSED


CLOSED = Breaker()
