"""All targets as this process observes them: in flight, circuit, credential, price in force."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from app.domain.circuit import CLOSED, Breaker
from app.domain.errors import FaultKind, TargetFailure
from app.domain.pricing.rate_card import RateCard
from app.domain.pricing.self_host import MeasuredRates, standard_card
from app.domain.routing.policy import Policy
from app.domain.target import Circuit, Target, TargetSeen

#: Faults that say something of the target's health, not of one request.
UNHEALTHY = frozenset(
    {
        FaultKind.REFUSED_CONNECTION,
        FaultKind.CONNECT_TIMEOUT,
        FaultKind.FIRST_TOKEN_TIMEOUT,
        FaultKind.IDLE_TIMEOUT,
        FaultKind.CUT,
        FaultKind.INVALID_ANSWER,
        FaultKind.SERVER_ERROR,
    }
)


class Fleet:
    """Counts exactly what this process sends where. Its views are immutable values."""

    def __init__(self, *, has_credential: Callable[[str], bool]) -> None:
        self._has_credential = has_credential
        self._seen: dict[str, TargetSeen] = {}
        self._breakers: dict[str, Breaker] = {}
        self._measured: dict[str, MeasuredRates] = {}

    def follow(self, policy: Policy) -> None:
        """Watch the targets of this policy: new ones start empty, known ones keep their counts, gone ones are dropped
        once nothing is in flight there."""
        for target in policy.targets.values():
            before = self._seen.get(target.name, TargetSeen())
            self._seen[target.name] = replace(
                before,
                credential_present=target.credential is None or self._has_credential(target.credential),
                rate_card=self._price(policy, target),
            )
        for name in [name for name in self._seen if name not in policy.targets and not self._seen[name].in_flight]:
            del self._seen[name]

    def measured(self, rates: Iterable[MeasuredRates], *, policy: Policy) -> None:
        """New measurements came in; prices that rest on them are computed anew."""
        self._measured.update({each.target: each for each in rates})
        self.follow(policy)

    def view(self, *, at_s: float) -> Mapping[str, TargetSeen]:
        """The fleet now. Circuits are read at `at_s`, of the monotonic clock."""
        if self._breakers:
            for name in list(self._breakers):
                self._read_circuit(name, at_s=at_s)
        return self._seen.copy()

    def entered(self, target: str, *, at_s: float) -> None:
        """A request is dispatched there."""
        seen = self._seen[target]
        self._seen[target] = TargetSeen(
            in_flight=seen.in_flight + 1,
            circuit=seen.circuit,
            credential_present=seen.credential_present,
            rate_card=seen.rate_card,
        )
        if target in self._breakers:
            self._breakers[target] = self._breakers[target].dispatched(at_s=at_s)

    def left(self, target: str, *, at_s: float, answered: bool, failure: TargetFailure | None = None) -> None:
        """A dispatched request ended: `answered` clears the record of failures, an unhealthy `failure` adds to it.
        Neither (the caller left) says nothing of the target."""
        seen = self._seen[target]
        self._seen[target] = TargetSeen(
            in_flight=seen.in_flight - 1,
            circuit=seen.circuit,
            credential_present=seen.credential_present,
            rate_card=seen.rate_card,
        )
        if failure is not None and failure.kind in UNHEALTHY:
            self._breakers[target] = self._breakers.get(target, CLOSED).failed(at_s=at_s)
        elif answered and target in self._breakers:
            del self._breakers[target]
            self._seen[target] = replace(self._seen[target], circuit=Circuit.CLOSED)

    def in_flight(self) -> Mapping[str, int]:
        """Requests in flight, by target."""
        return {name: seen.in_flight for name, seen in self._seen.items()}

    def _read_circuit(self, name: str, *, at_s: float) -> None:
        state = self._breakers[name].state(at_s=at_s)
        if name in self._seen and self._seen[name].circuit is not state:
            self._seen[name] = replace(self._seen[name], circuit=state)

    def _price(self, policy: Policy, target: Target) -> RateCard | None:
        usd_per_hour = policy.usd_per_hour(target)
        rates = self._measured.get(target.name)
        if target.rate_card is not None or usd_per_hour is None or rates is None or rates.model != target.model:
            return target.rate_card
        day = datetime.fromtimestamp(rates.measured_at_s, UTC).date()
        origin = f"measured {day} on {rates.engine_version} at concurrency {rates.concurrency}"
        return standard_card(usd_per_hour=usd_per_hour, rates=rates, origin=origin)
