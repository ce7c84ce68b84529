"""All targets as this process observes them: in flight, circuit, credential, price, speed, what is left of limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from functools import partial
from math import inf
from typing import Final

from app.domain.capacity.learned import LearnedCurve, version_kept
from app.domain.errors import FaultKind, TargetFailure
from app.domain.metering.meter import Meter
from app.domain.pricing.rate_card import RateCard
from app.domain.pricing.self_host import MeasuredRates, standard_card
from app.domain.routing.policy import Policy
from app.domain.signals import EngineSignals
from app.domain.target import Circuit, Target, TargetSeen
from app.domain.usage import Usage
from app.live.circuits import IN_SERVICE, Circuits, Rest
from app.live.target_load import TargetLoad
from app.live.target_place import TTFT_KNOWN_S, TargetPlace
from app.ports.curves import KeptCurve
from app.ports.ledger import Compared, TargetSent

#: Faults of a connection whose other end may be gone, and may come back as another. No first token in time is none of
#: them: it is what busy engines do.
_BROKE: Final = frozenset(
    {FaultKind.CUT, FaultKind.REFUSED_CONNECTION, FaultKind.CONNECT_TIMEOUT, FaultKind.IDLE_TIMEOUT}
)


class Fleet:
    """Counts exactly what this process sends where. Its views are immutable values."""

    def __init__(
        self,
        *,
        has_credential: Callable[[str], bool],
        today: Callable[[], date] | None = None,
        notice: Callable[[str], None] = lambda sentence: None,
        processes: int = 1,
    ) -> None:
        """`today` is the day in UTC, for prices that change; without it the last price of each list holds. `notice`
        gets a sentence when a credential begins to rest. `processes` like this one share the targets' limits of
        requests in flight."""
        self._processes = processes
        self._has_credential = has_credential
        self._today = today
        self._places: dict[str, TargetPlace] = {}
        self._circuits = Circuits(notice=notice)
        self._measured: dict[str, MeasuredRates] = {}
        #: The last view; never changed, only replaced.
        self._view: Mapping[str, TargetSeen] = {}
        #: Names whose entry in the last view is not true any more.
        self._changed: set[str] = set()
        #: When time alone changes a view.
        self._due_s = inf
        #: When a request was sent anywhere last.
        self._entered_s = -inf

    def follow(self, policy: Policy) -> None:
        """Watch the targets of this policy: new ones start empty, known ones keep their counts, gone ones are dropped
        once nothing is in flight there."""
        for target in policy.targets.values():
            place = self._places.setdefault(target.name, TargetPlace())
            place.is_followed = True
            place.credential_present = target.credential is None or self._has_credential(target.credential)
            place.rate_card = self._price(policy, target)
            place.limit(target)
            place.learn(target, processes=self._processes)
            self._changed.add(target.name)
        self._circuits.follow({target.name: target.credential for target in policy.targets.values()})
        troubled = set(self._circuits.troubled())
        for name in policy.targets.keys() - troubled:
            self._places[name].rest = IN_SERVICE  # another credential: what rested with the one before rests no more
        for name in [name for name in self._places if name not in policy.targets]:
            self._places[name].is_followed = False
            self._drop_if_idle(name)

    def measured(self, rates: Iterable[MeasuredRates], *, policy: Policy) -> None:
        """New measurements came in; prices that rest on them are computed anew."""
        self._measured.update({each.target: each for each in rates})
        self.follow(policy)

    def view(self, *, at_s: float) -> Mapping[str, TargetSeen]:
        """The fleet now. Circuits and what is left of limits are read at `at_s`, of the monotonic clock."""
        if self._circuits:
            for name in self._circuits.troubled():
                self._saw_rest(name, self._circuits.of(name, at_s=at_s))
        if at_s >= self._due_s:
            self._grow_older(at_s)
        if self._changed:
            view = dict(self._view)
            for name in self._changed:
                place = self._places.get(name)
                if place is None:
                    view.pop(name, None)
                else:
                    view[name] = place.seen(at_s=at_s)
            self._view = view
            self._changed.clear()
        return self._view

    def pauses(self, *, at_s: float) -> Mapping[str, float]:
        """Targets that rest because they asked for it, and for how many seconds more; see `Circuits.pauses`."""
        return self._circuits.pauses(at_s=at_s)

    def entered(
        self,
        target: str,
        *,
        at_s: float,
        prompt_tokens: int = 0,
        meter: Meter | None = None,
        streamed: bool = False,
    ) -> None:
        """A request is dispatched there, whose prompt has about so many tokens; `meter` hears what comes of it. A
        target that the policy has dropped since that request was admitted is counted until the request has left."""
        self._entered_s = at_s
        place = self._places.get(target)
        if place is None:
            place = self._places[target] = TargetPlace()
        if meter is not None:
            place.meters[meter] = None
            if place.load is not None:
                self._meets(place.load, target, place, meter, prompt_tokens=prompt_tokens, streamed=streamed, at_s=at_s)
        place.in_flight += 1
        self._changed.add(target)
        if place.window is not None:
            place.window.sent(prompt_tokens=prompt_tokens, at_s=at_s)
            self._due_s = min(self._due_s, place.window.changes_after_s(at_s=at_s))
        if self._circuits:
            self._circuits.dispatched(target, at_s=at_s)

    def left(
        self,
        target: str,
        *,
        at_s: float,
        answered: bool,
        failure: TargetFailure | None = None,
        ttft_s: float | None = None,
        tpot_s: float | None = None,
        usage: Usage | None = None,
        prompt_tokens: int = 0,
        meter: Meter | None = None,
    ) -> None:
        """A dispatched request ended: `answered` clears the record of failures, an unhealthy `failure` adds to it.
        Neither (the caller left) says nothing of the target. `meter` is the one that it entered with.

        `ttft_s` and `tpot_s` are a streamed answer's. `usage` replaces `prompt_tokens`, the estimate that was given on
        entering.
        """
        place = self._places[target]
        if place.load is not None and meter is not None:
            seen = (ttft_s, tpot_s, usage) if answered else (None, None, None)
            place.load.left(meter, in_flight=place.in_flight, ttft_s=seen[0], tpot_s=seen[1], usage=seen[2], at_s=at_s)
            self._due_s = min(self._due_s, place.load.changes_after_s(at_s=at_s))
        place.in_flight -= 1
        self._changed.add(target)
        if answered and ttft_s is not None:
            place.saw_first_token(after_s=ttft_s, at_s=at_s)
            self._due_s = min(self._due_s, at_s + TTFT_KNOWN_S)
        if place.window is not None and usage is not None:
            place.window.corrected(tokens=usage.prompt + usage.output - prompt_tokens, at_s=at_s)
            self._due_s = min(self._due_s, place.window.changes_after_s(at_s=at_s))
        self._judge(target, place, at_s=at_s, answered=answered, failure=failure, meter=meter)
        if not place.is_followed:
            self._drop_if_idle(target)

    def polled(self, target: str, signals: EngineSignals, *, ours: int) -> None:
        """An engine told its load, while at most `ours` requests of this process were there."""
        place = self._places.get(target)
        if place is not None and place.load is not None:
            since_s = place.load.polled(signals, ours=ours, teaches=not place.serves_instead)
            place.progressed_s = max(place.progressed_s, since_s)
            self._changed.add(target)
            self._due_s = min(self._due_s, place.load.changes_after_s(at_s=signals.at_s))

    def serves(self, target: str, *, instead: str) -> None:
        """What an engine serves in the place of the policy's model; empty: that model."""
        place = self._places.get(target)
        if place is not None and place.serves_instead != instead:
            place.serves_instead = instead
            self._changed.add(target)

    def is_in_doubt(self, target: str) -> bool:
        """A connection to this machine of ours broke, fell silent or could not be made: an engine that was started
        since may serve another model, and nobody has asked it yet."""
        return self.in_doubt_since_s(target) is not None

    def in_doubt_since_s(self, target: str) -> float | None:
        """When the last such connection broke, while the target is in doubt."""
        place = self._places.get(target)
        return None if place is None else place.broke_s

    def is_sure(self, target: str, *, at_s: float) -> None:
        """It was asked at that moment, and answered: what `serves` says is what is there."""
        place = self._places.get(target)
        if place is not None and place.broke_s is not None and place.broke_s <= at_s:
            place.broke_s = None

    def runs(self, target: str, *, version: str) -> None:
        """What version an engine says it is. What was learned of another one is void."""
        place = self._places.get(target)
        if place is not None and version:
            place.runs(version_kept(version))
            self._changed.add(target)

    def learned(self) -> list[LearnedCurve]:
        """What was learned of the policy's self-hosted targets, to be kept."""
        learned = [place.learned() for place in self._places.values() if place.is_followed]
        return [curve for curve in learned if curve is not None]

    def recall(self, kept: Iterable[KeptCurve], *, at_s: float) -> None:
        """What was learned before, or elsewhere, is taken over where it is more than is known here."""
        for each in kept:
            place = self._places.get(each.curve.of.target)
            if place is not None and place.recall(each, at_s=at_s):
                self._changed.add(each.curve.of.target)
                self._due_s = min(self._due_s, at_s)

    def is_busy(self, *, at_s: float, lately_s: float) -> bool:
        """Anything is in flight, or was sent within the last `lately_s`."""
        return at_s - self._entered_s < lately_s or any(place.in_flight for place in self._places.values())

    def sent(self, *, at_s: float) -> Mapping[str, TargetSent]:
        """What went to every target that has limits by the minute, within the last one."""
        return {
            name: place.window.sent_so_far(at_s=at_s)
            for name, place in self._places.items()
            if place.window is not None
        }

    def compared(self, compared: Compared) -> None:
        """The answer to what `sent` told last: until told again, this process keeps to these rooms."""
        for name, place in self._places.items():
            if place.window is not None and name in compared.rooms:
                place.window.compared(rooms=compared.rooms[name], processes=compared.processes, place=compared.place)
                self._changed.add(name)

    def parted(self) -> None:
        """Nothing is heard of the others any more: this process keeps to its share of every limit."""
        for name, place in self._places.items():
            if place.window is not None:
                place.window.parted()
                self._changed.add(name)

    def in_flight(self) -> Mapping[str, int]:
        """Requests in flight, by target."""
        return {name: place.in_flight for name, place in self._places.items()}

    def resting(self) -> Mapping[str, bool]:
        """By target: whether it rested after failures when it was looked at last."""
        return {name: seen.circuit is Circuit.OPEN for name, seen in self._view.items()}

    def _meets(
        self,
        load: TargetLoad,
        target: str,
        place: TargetPlace,
        meter: Meter,
        *,
        prompt_tokens: int,
        streamed: bool,
        at_s: float,
    ) -> None:
        """What a request meets there is kept with it, and its prompt counts until its first token comes."""
        load.entered(meter, in_flight=place.in_flight, prompt_tokens=prompt_tokens, streamed=streamed, at_s=at_s)
        if streamed:
            meter.tell_first(partial(self._computed, target, load, meter))
        else:
            self._due_s = min(self._due_s, load.changes_after_s(at_s=at_s))

    def _computed(self, target: str, load: TargetLoad, meter: Meter) -> None:
        load.computed(meter)
        self._changed.add(target)

    def _drop_if_idle(self, name: str) -> None:
        if not self._places[name].in_flight:
            del self._places[name]
            self._circuits.forget(name)
            self._changed.add(name)

    def _judge(
        self,
        target: str,
        place: TargetPlace,
        *,
        at_s: float,
        answered: bool,
        failure: TargetFailure | None,
        meter: Meter | None,
    ) -> None:
        """What the end of a request says of its target."""
        if meter is not None:
            place.meters.pop(meter, None)
            place.progressed_s = max(place.progressed_s, at_s if answered else meter.last_content_s)
        if failure is not None:
            if failure.kind in _BROKE and place.load is not None:
                place.broke_s = at_s
            began_s = at_s if meter is None else meter.started_s
            progressed = meter is None or place.has_progressed_since(began_s)
            self._circuits.failed(failure, began_s=began_s, at_s=at_s, progressed=progressed)
        elif self._circuits:
            if answered:
                sharing = list(self._circuits.troubled())
                self._circuits.answered(target)
                for name in sharing:
                    self._saw_rest(name, self._circuits.of(name, at_s=at_s))
            else:
                self._circuits.let_go(target)

    def _saw_rest(self, name: str, rest: Rest) -> None:
        place = self._places[name]
        if place.rest != rest:
            place.rest = rest
            self._changed.add(name)

    def _grow_older(self, at_s: float) -> None:
        """Forget speeds and loads that are too old, mark what has room again, and find out when to look next."""
        self._due_s = inf
        for name, place in self._places.items():
            if place.ttft_ms is not None:
                if at_s >= place.ttft_until_s:
                    place.ttft_ms = None
                    self._changed.add(name)
                else:
                    self._due_s = min(self._due_s, place.ttft_until_s)
            if place.window is not None:
                self._changed.add(name)
                self._due_s = min(self._due_s, place.window.changes_after_s(at_s=at_s))
            if place.load is not None:
                self._changed.add(name)
                self._due_s = min(self._due_s, place.load.grow_older(at_s=at_s))

    def _price(self, policy: Policy, target: Target) -> RateCard | None:
        usd_per_hour = policy.usd_per_hour(target)
        rates = self._measured.get(target.name)
        if target.rate_card is not None or usd_per_hour is None or rates is None or rates.model != target.model:
            return target.rate_card if self._today is None else target.price_of(self._today())
        day = datetime.fromtimestamp(rates.measured_at_s, UTC).date()
        origin = f"measured {day} on {rates.engine_version} at concurrency {rates.concurrency}"
        return standard_card(usd_per_hour=usd_per_hour, rates=rates, origin=origin)
