"""`app.domain.replay.run`: who is told what in which order, and that `decide` decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf

import pytest

from app.domain.errors import FaultKind
from app.domain.replay.arrival import Arrival
from app.domain.replay.engine import BatchingEngine
from app.domain.replay.job import Answering, SimulatedTarget
from app.domain.replay.run import Believing, replay_trace
from app.domain.replay.seller import PacedSeller
from app.domain.replay.speed import EngineSpeed, Pace
from app.domain.routing.decide import decide
from app.domain.routing.plan import Plan, Refusal
from app.domain.routing.snapshot import Snapshot
from app.domain.signals import SignalName
from app.domain.target import Hosting, TargetSeen
from tests.domain.replay.recording import Recorded
from tests.makers import a_route, a_snapshot, a_target, some_facts

SPEED = EngineSpeed(step_s=0.01, step_per_sequence_s=0.0, prefill_tokens_per_s=1e12, sequences_most=2)
WORLD = a_snapshot(a_target("home"), a_target("api", hosting=Hosting.MANAGED), route=a_route("home", "api"))


class Mind(Believing):
    """A gateway that sees the home as slow from a moment on, and writes down what it is told."""

    def __init__(self, *, slow_from_s: float = inf, world: Snapshot = WORLD) -> None:
        self.world, self._slow_from_s = world, slow_from_s
        self.requests: list[Recorded] = []
        self.decided: list[tuple[Arrival, Plan | Refusal, Snapshot]] = []
        self.polls: list[tuple[str, float, float]] = []
        self.last_s = 0.0

    def snapshot(self, *, at_s: float) -> Snapshot:
        assert at_s >= self.last_s
        self.last_s = at_s
        if at_s < self._slow_from_s:
            return self.world
        circuit_open = TargetSeen(rate_card=None)
        return replace(self.world, fleet={**self.world.fleet, "home": circuit_open})

    def admitted(self, arrival: Arrival, plan: Plan, snapshot: Snapshot) -> Answering:
        self.decided.append((arrival, plan, snapshot))
        self.requests.append(Recorded())
        return self.requests[-1]

    def refused(self, arrival: Arrival, refusal: Refusal, snapshot: Snapshot) -> None:
        self.decided.append((arrival, refusal, snapshot))

    def polled(self, target: str, numbers: Mapping[SignalName, float], *, at_s: float) -> None:
        assert at_s >= self.last_s
        self.last_s = at_s
        self.polls.append((target, at_s, numbers[SignalName.RUNNING]))


def asked(*times_s: float, prompt: int = 5, output: int = 11) -> list[Arrival]:
    return [
        Arrival(at_s=at_s, facts=some_facts(request_id=f"r{n}"), prompt_tokens=prompt, output_tokens=output)
        for n, at_s in enumerate(times_s)
    ]


def replayed_by(
    mind: Mind, arrivals: Sequence[Arrival], *, home: SimulatedTarget | None = None, poll_every_s: float = 0.5
) -> float:
    targets = {"home": home or BatchingEngine(SPEED), "api": PacedSeller(Pace(ttft_s=1.0, tpot_s=0.0))}
    return replay_trace(arrivals, targets=targets, gateway=mind, poll_every_s=poll_every_s)


def test_requests_go_where_decide_says_on_what_the_gateway_believes_then() -> None:
    mind = Mind(slow_from_s=2.0)
    replayed_by(mind, asked(0.0, 1.0, 2.0, 3.0))
    assert [request.sent_to for request in mind.requests] == [["home"], ["home"], ["api"], ["api"]]
    for arrival, decision, snapshot in mind.decided:
        assert decision == decide(arrival.facts, snapshot)


def test_every_request_is_answered_once_and_the_last_one_ends_the_replay() -> None:
    mind = Mind()
    lasted_s = replayed_by(mind, asked(*(n / 100 for n in range(50))))
    assert len(mind.requests) == 50
    assert max(request.times[1] for request in mind.requests) == pytest.approx(lasted_s)


def test_who_ends_at_the_moment_of_an_arrival_has_ended_before_it() -> None:
    mind = Mind()
    heard: list[bool] = []
    snapshot = mind.snapshot

    def looking(*, at_s: float) -> Snapshot:
        heard.append(all(request.ended_s is not None for request in mind.requests))
        return snapshot(at_s=at_s)

    mind.snapshot = looking  # type: ignore[method-assign]
    replayed_by(mind, asked(0.0, 1.0, prompt=1, output=1), home=PacedSeller(Pace(ttft_s=1.0, tpot_s=0.0)))
    assert heard == [True, True]


def test_engines_are_polled_while_there_is_something_to_do_and_not_else() -> None:
    mind = Mind()
    replayed_by(mind, asked(0.0, 100.0, output=151))
    times_s = [0.5, 1.0, 1.5, 2.0, 100.5, 101.0, 101.5]
    assert [(name, at_s) for name, at_s, _ in mind.polls] == [("home", at_s) for at_s in times_s]
    assert [running for _, _, running in mind.polls] == [1, 1, 1, 0, 1, 1, 1]


def test_what_no_engine_could_hold_goes_to_the_next_of_the_plan() -> None:
    mind = Mind()
    replayed_by(mind, asked(0.0, prompt=500), home=BatchingEngine(replace(SPEED, kv_tokens=100)))
    (request,) = mind.requests
    assert request.sent_to == ["home", "api"]
    assert [failure.kind for failure in request.failures] == [FaultKind.CONTEXT_OVERFLOW]
    assert request.ended_s is not None


def test_what_nobody_can_hold_is_given_up_after_every_target_was_asked() -> None:
    world = a_snapshot(a_target("home"), route=a_route("home"))
    mind = Mind(world=world)
    assert replayed_by(mind, asked(3.0, prompt=500), home=BatchingEngine(replace(SPEED, kv_tokens=100))) == 3.0
    (request,) = mind.requests
    assert (request.sent_to, request.gave_up_s, request.first_s) == (["home"], 3.0, None)
    assert "home cannot hold 500 prompt and 11 output tokens" in str(request.failures[0])


def test_a_refusal_dispatches_nothing() -> None:
    world = a_snapshot(a_target("home", rate_card=None), route=a_route("home"))
    mind = Mind(world=replace(world, fleet={}))
    assert replayed_by(mind, asked(1.0)) == 1.0
    ((_, decision, _),) = mind.decided
    assert isinstance(decision, Refusal)
    assert mind.requests == []


def test_no_arrivals_take_no_time() -> None:
    assert replayed_by(Mind(), []) == 0.0
