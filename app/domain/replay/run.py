"""A trace, replayed in virtual time: requests arrive, `decide` says where they go, simulated targets answer them.

Nothing here routes: each request is decided by the very function that the gateway calls, on a snapshot of what a
gateway would believe at that moment (`Believing`), which hears of the targets only what a gateway hears: its own
requests' first and last tokens, and what engines tell when they are polled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import Protocol

from app.domain.errors import FaultKind, TargetFailure
from app.domain.replay.arrival import Arrival
from app.domain.replay.job import Answering, Job, SimulatedTarget
from app.domain.routing.decide import decide
from app.domain.routing.plan import Plan, Refusal
from app.domain.routing.policy import Route
from app.domain.routing.snapshot import Snapshot
from app.domain.signals import SignalName
from app.domain.trying import next_try


class Believing(Protocol):
    """What a gateway knows at a moment of virtual time, and what becomes of its requests."""

    def snapshot(self, *, at_s: float) -> Snapshot:
        """The world as the gateway sees it then. Times never run back."""
        ...

    def admitted(self, arrival: Arrival, plan: Plan, snapshot: Snapshot) -> Answering:
        """The request goes where `plan` says, which was made on `snapshot`."""
        ...

    def refused(self, arrival: Arrival, refusal: Refusal, snapshot: Snapshot) -> None: ...

    def polled(self, target: str, numbers: Mapping[SignalName, float], *, at_s: float) -> None:
        """A target told of its load."""
        ...


def replay_trace(
    arrivals: Iterable[Arrival],
    *,
    targets: Mapping[str, SimulatedTarget],
    gateway: Believing,
    poll_every_s: float,
) -> float:
    """All of them, in their order, until the last is answered; the virtual time at the end, in seconds.

    At one moment targets come first, by the order of `targets`, then polls, then arrivals, so that a replay comes out
    the same every time. Targets are polled while any of them has something to do. `arrivals` do not run back in time,
    and `targets` has every target that a rule of a model uses which one of them asks for.
    """
    now_s = 0.0
    poll_s = inf
    coming = iter(arrivals)
    arrival = next(coming, None)
    while True:
        name, event_s = _soonest(targets)
        arrival_s = inf if arrival is None else arrival.at_s
        if event_s == arrival_s == inf:
            return now_s
        now_s = min(event_s, arrival_s)
        if poll_s < now_s:
            _poll(targets, gateway, at_s=poll_s)
            poll_s = poll_s + poll_every_s if event_s < inf else inf
        elif event_s <= arrival_s:
            _happen(targets[name], at_s=event_s)
        elif arrival is not None:
            _arrive(arrival, targets=targets, gateway=gateway)
            poll_s = min(poll_s, arrival_s + poll_every_s)
            arrival = next(coming, None)


def _soonest(targets: Mapping[str, SimulatedTarget]) -> tuple[str, float]:
    soonest, soonest_s = "", inf
    for name, target in targets.items():
        at_s = target.next_s
        if at_s < soonest_s:
            soonest, soonest_s = name, at_s
    return soonest, soonest_s


def _poll(targets: Mapping[str, SimulatedTarget], gateway: Believing, *, at_s: float) -> None:
    for name, target in targets.items():
        if numbers := target.numbers(at_s=at_s):
            gateway.polled(name, numbers, at_s=at_s)


def _happen(target: SimulatedTarget, *, at_s: float) -> None:
    begun, ended = target.happen()
    for job in begun:
        job.request.first_token(at_s=at_s)
    for job in ended:
        job.request.ended(at_s=at_s)


def _arrive(arrival: Arrival, *, targets: Mapping[str, SimulatedTarget], gateway: Believing) -> None:
    snapshot = gateway.snapshot(at_s=arrival.at_s)
    decision = decide(arrival.facts, snapshot)
    if isinstance(decision, Refusal):
        gateway.refused(arrival, decision, snapshot)
        return
    request = gateway.admitted(arrival, decision, snapshot)
    _dispatch(request, arrival, decision, snapshot.policy.routes[arrival.facts.model], snapshot, targets)


def _dispatch(
    request: Answering,
    arrival: Arrival,
    plan: Plan,
    route: Route,
    snapshot: Snapshot,
    targets: Mapping[str, SimulatedTarget],
) -> None:
    """To the first of the plan's targets whose engine can hold it at all; the next one is the gateway's own choice."""
    failures: list[TargetFailure] = []
    at_s = arrival.at_s
    while True:
        now = next_try(
            plan.order,
            failures,
            attempts_most=route.attempts,
            targets=snapshot.policy.targets,
            resting=(),
            jitter=0.0,
            left_s=route.timeouts.total_s,
        )
        if now is None:
            request.gave_up(at_s=at_s)
            return
        request.sent(now.target, at_s=at_s)
        target = targets[now.target]
        if target.holds(prompt_tokens=arrival.prompt_tokens, output_tokens=arrival.output_tokens):
            job = Job(
                request, target=now.target, prompt_tokens=arrival.prompt_tokens, output_tokens=arrival.output_tokens
            )
            target.add(job, at_s=at_s)
            return
        failures.append(_too_long(now.target, arrival))
        request.failed(failures[-1], at_s=at_s)


def _too_long(target: str, arrival: Arrival) -> TargetFailure:
    return TargetFailure(
        f"{target} cannot hold {arrival.prompt_tokens} prompt and {arrival.output_tokens} output tokens in its KV "
        "cache: give it more, or set its context_tokens",
        kind=FaultKind.CONTEXT_OVERFLOW,
        target=target,
    )
