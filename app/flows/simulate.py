"""What a policy would do with a trace: replayed in virtual time, by a gateway that has its own memory and no socket.

The gateway's part is played by the rooms that play it every day: `Fleet` counts, learns each engine's curve from its
answers and predicts, `Spilled` and `SpentBudgets` count money, `ReceiptDraft` with its meter makes the receipts. None
of them is told how fast the simulated engines really are. The clock is the trace's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from app.domain.budget import period
from app.domain.errors import BadRequest, TargetFailure
from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.money import ZERO
from app.domain.pricing.self_host import MeasuredRates
from app.domain.replay.arrival import Arrival
from app.domain.replay.engine import BatchingEngine
from app.domain.replay.job import Answering, SimulatedTarget
from app.domain.replay.run import replay_trace
from app.domain.replay.seller import PacedSeller
from app.domain.replay.speed import EngineSpeed, Pace
from app.domain.replay.tally import Tally
from app.domain.routing.plan import Plan, Refusal
from app.domain.routing.policy import Policy
from app.domain.routing.snapshot import Snapshot, spill_key
from app.domain.signals import EngineSignals, SignalName
from app.domain.target import Hosting, Target
from app.domain.usage import Usage
from app.flows.draft import OpenAttempt, ReceiptDraft
from app.flows.watch_fleet import POLL_EVERY_S
from app.live.budgets import SpentBudgets
from app.live.fleet import Fleet
from app.live.spilled import Spilled

#: A seller whose speed nobody gave.
USUAL_PACE = Pace(ttft_s=0.5, tpot_s=0.02)
#: Arrivals between two words of progress.
PROGRESS_EVERY = 200

_MICROSECONDS = 1_000_000
_TOKEN_BYTES = 4
_STATUS_NOBODY = 503


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What is replayed, and under what. `began_us` is the wall clock at the first arrival, in Unix microseconds.

    `speeds` has every self-hosted target that the models asked for use; `paces` whatever is known of managed ones.
    """

    policy: Policy
    arrivals: Sequence[Arrival]
    began_us: int
    speeds: Mapping[str, EngineSpeed]
    paces: Mapping[str, Pace]
    #: What a first token should not exceed; None: nobody said.
    objective_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What came of it. `lasted_s` is the virtual time until the last answer ended."""

    tally: Tally
    lasted_s: float
    #: The targets of the models asked for, each with the speed that was taken for true.
    speeds: Mapping[str, EngineSpeed]
    paces: Mapping[str, Pace]
    #: Of the managed ones, those whose pace somebody gave.
    paces_given: frozenset[str]
    #: Of the self-hosted ones, those whose tokens are priced by that speed, as nobody gave a price or measured one.
    priced_by_speed: tuple[str, ...]
    #: Rules of the models asked for that wait for full targets, by `spill_key`: here nobody waits in the gateway.
    waiting_rules: tuple[str, ...] = ()


def simulate(
    simulation: Simulation,
    *,
    progress: Callable[[int], None] = lambda arrived: None,
    heard: Callable[[Receipt], None] = lambda receipt: None,
) -> Simulated:
    """Replay it. `progress` is told how many have arrived, `heard` every receipt when its request has ended.

    Raises BadRequest, in a sentence that says which option mends it, for a model, a target or a speed that is not
    there.
    """
    used = _used_targets(simulation)
    speeds, paces = _speeds_of(used, simulation), _paces_of(used, simulation)
    gateway = _VirtualGateway(simulation, speeds=speeds, heard=heard)
    targets: dict[str, SimulatedTarget] = {name: BatchingEngine(speed) for name, speed in speeds.items()}
    targets.update({name: PacedSeller(pace) for name, pace in paces.items()})
    lasted_s = replay_trace(
        _counted(simulation.arrivals, progress),
        targets=dict(sorted(targets.items())),
        gateway=gateway,
        poll_every_s=POLL_EVERY_S,
    )
    return Simulated(
        tally=gateway.tally,
        lasted_s=lasted_s,
        speeds=speeds,
        paces=paces,
        paces_given=frozenset(simulation.paces),
        priced_by_speed=tuple(name for name in speeds if used[name].rate_card is None),
        waiting_rules=_waiting_rules(simulation),
    )


def _waiting_rules(simulation: Simulation) -> tuple[str, ...]:
    policy, asked = simulation.policy, {arrival.facts.model for arrival in simulation.arrivals}
    return tuple(
        spill_key(model=model, rule=rule.name)
        for model in sorted(asked)
        for rule in policy.routes[model].rules
        if rule.waits
    )


def _used_targets(simulation: Simulation) -> dict[str, Target]:
    """By name: the targets that a rule of a model uses that is asked for."""
    policy, asked = simulation.policy, {arrival.facts.model for arrival in simulation.arrivals}
    for model in sorted(asked - policy.routes.keys()):
        served = ", ".join(sorted(policy.routes))
        raise BadRequest(f'the policy has no model "{model[:200]}"; it has {served}: give --model', param="model")
    names = {name for model in asked for rule in policy.routes[model].rules for name in rule.use}
    return {name: policy.targets[name] for name in sorted(names)}


def _speeds_of(used: Mapping[str, Target], simulation: Simulation) -> dict[str, EngineSpeed]:
    _refuse_strangers(simulation.speeds, simulation.policy, hosting=Hosting.SELF_HOSTED, option="--curve")
    names = [name for name, target in used.items() if target.hosting is Hosting.SELF_HOSTED]
    missing = [name for name in names if name not in simulation.speeds]
    if missing:
        raise BadRequest(
            f'nothing is known of how fast "{missing[0]}" is: give its curve, as in --curve '
            f"{missing[0]}=8,0.65,12000,64 (milliseconds of a step, milliseconds each sequence adds, prompt tokens a "
            "second, sequences at once)",
            param="curve",
        )
    return {name: _in_steps(simulation.speeds[name], used[name]) for name in names}


def _in_steps(speed: EngineSpeed, target: Target) -> EngineSpeed:
    """It computes as much in a step as the gateway takes engines of its family to."""
    return speed if target.family is None else replace(speed, step_tokens=target.family.step_tokens)


def _paces_of(used: Mapping[str, Target], simulation: Simulation) -> dict[str, Pace]:
    _refuse_strangers(simulation.paces, simulation.policy, hosting=Hosting.MANAGED, option="--pace")
    names = [name for name, target in used.items() if target.hosting is Hosting.MANAGED]
    return {name: simulation.paces.get(name, USUAL_PACE) for name in names}


def _refuse_strangers(given: Iterable[str], policy: Policy, *, hosting: Hosting, option: str) -> None:
    fitting = [name for name, target in policy.targets.items() if target.hosting is hosting]
    for name in given:
        if name not in fitting:
            kind = hosting.value.replace("_", "-")
            raise BadRequest(
                f'{option} names "{name[:200]}", which is no {kind} target of the policy; those are '
                f"{', '.join(sorted(fitting)) or 'none'}",
                param=option.strip("-"),
            )


def _counted(arrivals: Iterable[Arrival], progress: Callable[[int], None]) -> Iterator[Arrival]:
    for count, arrival in enumerate(arrivals, 1):
        if count % PROGRESS_EVERY == 0:
            progress(count)
        yield arrival


class _VirtualGateway:
    """What a gateway process remembers; started with the trace, alone, and with every credential at hand."""

    def __init__(
        self, simulation: Simulation, *, speeds: Mapping[str, EngineSpeed], heard: Callable[[Receipt], None]
    ) -> None:
        self._policy = simulation.policy
        self._began_us = simulation.began_us
        self._heard = heard
        self._day = _day(simulation.began_us)
        self.tally = Tally(objective_s=simulation.objective_s)
        self.fleet = Fleet(has_credential=lambda reference: True, today=lambda: self._day)
        self.fleet.measured(_measured(speeds, simulation), policy=simulation.policy)
        self._spilled = Spilled()
        self._budgets = SpentBudgets()
        at = self._wall(0.0)
        for budget in simulation.policy.budgets.values():
            begin, end = period(budget.every, at=at)
            self._budgets.told(budget, spent=ZERO, begin=begin, end=end, since=0)

    def snapshot(self, *, at_s: float) -> Snapshot:
        """As the gateway of a process makes it."""
        policy, at = self._policy, self._wall(at_s)
        if (day := _day(self.us(at_s))) != self._day:
            self._day = day
            self.fleet.follow(policy)
        return Snapshot(
            policy=policy,
            fleet=self.fleet.view(at_s=at_s),
            at=at,
            budgets=self._budgets.view(policy, at=at),
            spill_spent=self._spilled.view(policy, at_s=at_s),
        )

    def admitted(self, arrival: Arrival, plan: Plan, snapshot: Snapshot) -> Answering:
        """A receipt is begun."""
        return _Request(arrival, snapshot, draft=self._draft(arrival, plan), gateway=self)

    def refused(self, arrival: Arrival, refusal: Refusal, snapshot: Snapshot) -> None:
        """Nothing is dispatched; a receipt says so."""
        draft = self._draft(arrival, refusal)
        receipt = draft.receipt(outcome=Outcome.REFUSED, status=_STATUS_NOBODY, now_s=arrival.at_s)
        self.settled(receipt, arrival, at_s=arrival.at_s)

    def polled(self, target: str, numbers: Mapping[SignalName, float], *, at_s: float) -> None:
        """Of what the engine knows, that part is heard that its family tells."""
        family = self._policy.targets[target].family
        told = {} if family is None else {name: each for name, each in numbers.items() if name in family.signals}
        if told:
            signals = EngineSignals(at_s=at_s, numbers=told, missing={})
            self.fleet.polled(target, signals, ours=self.fleet.in_flight()[target])

    def settled(self, receipt: Receipt, arrival: Arrival, *, at_s: float) -> None:
        """Whoever reads receipts is told."""
        if self._spilled.counts:
            self._spilled.settled(receipt, at_s=at_s)
        if self._budgets.counts:
            self._budgets.settled(receipt)
        final = receipt.final
        self.tally.saw(
            receipt,
            at_s=arrival.at_s,
            first_token_most_s=self._policy.routes[arrival.facts.model].timeouts.first_token_s,
            marginal_ppm=0 if final is None else _marginal_ppm(self._policy.targets[final.target]),
        )
        self._heard(receipt)

    def us(self, at_s: float) -> int:
        """The wall clock then, in Unix microseconds."""
        return self._began_us + round(at_s * _MICROSECONDS)

    def _wall(self, at_s: float) -> datetime:
        return datetime.fromtimestamp(self.us(at_s) / _MICROSECONDS, self._policy.timezone)

    def _draft(self, arrival: Arrival, decision: Plan | Refusal) -> ReceiptDraft:
        return ReceiptDraft(
            facts=arrival.facts,
            at_us=self.us(arrival.at_s),
            started_s=arrival.at_s,
            caller_label=None,
            policy_digest=self._policy.digest,
            decision=decision,
        )


class _Request:
    """One request, as `answer`, `dispatch` and `relay` keep it."""

    __slots__ = ("_arrival", "_draft", "_gateway", "_open", "_snapshot")

    def __init__(self, arrival: Arrival, snapshot: Snapshot, *, draft: ReceiptDraft, gateway: _VirtualGateway) -> None:
        self._arrival = arrival
        self._snapshot = snapshot
        self._draft = draft
        self._gateway = gateway
        self._open: OpenAttempt | None = None

    def sent(self, target: str, *, at_s: float) -> None:
        price = self._snapshot.fleet[target].rate_card
        assert price is not None, "the price filter lets no unpriced target into a plan"
        opened = self._draft.begin_attempt(
            target=self._snapshot.policy.targets[target], price=price, now_s=at_s, now_us=self._gateway.us(at_s)
        )
        self._gateway.fleet.entered(
            target,
            at_s=at_s,
            prompt_tokens=opened.prompt_tokens,
            meter=opened.meter,
            streamed=self._draft.stream,
        )
        self._open = opened

    def failed(self, failure: TargetFailure, *, at_s: float) -> None:
        self._leave(outcome=Outcome.REFUSED, failure=failure, at_s=at_s)

    def first_token(self, *, at_s: float) -> None:
        if self._draft.stream:
            self._attempt.meter.saw_content(events=1, content_bytes=_TOKEN_BYTES, at_s=at_s)

    def ended(self, *, at_s: float) -> None:
        arrival, meter = self._arrival, self._attempt.meter
        if self._draft.stream and (rest := arrival.output_tokens - 1):
            meter.saw_content(events=rest, content_bytes=rest * _TOKEN_BYTES, at_s=at_s)
        meter.saw_usage(Usage(prompt=arrival.prompt_tokens, output=arrival.output_tokens))
        self._leave(outcome=Outcome.COMPLETE, failure=None, at_s=at_s)
        self._settle(outcome=Outcome.COMPLETE, status=200, at_s=at_s)

    def gave_up(self, *, at_s: float) -> None:
        self._settle(outcome=Outcome.REFUSED, status=_STATUS_NOBODY, at_s=at_s)

    @property
    def _attempt(self) -> OpenAttempt:
        assert self._open is not None, "an attempt was begun"
        return self._open

    def _leave(self, *, outcome: Outcome, failure: TargetFailure | None, at_s: float) -> None:
        opened = self._attempt
        closed = self._draft.close_attempt(opened, outcome=outcome, now_s=at_s, failure=failure)
        self._gateway.fleet.left(
            closed.target,
            at_s=at_s,
            answered=outcome is Outcome.COMPLETE,
            failure=failure,
            ttft_s=closed.ttft_s,
            tpot_s=closed.tpot_s,
            usage=closed.usage,
            prompt_tokens=opened.prompt_tokens,
            meter=opened.meter,
        )

    def _settle(self, *, outcome: Outcome, status: int, at_s: float) -> None:
        receipt = self._draft.receipt(outcome=outcome, status=status, now_s=at_s)
        self._gateway.settled(receipt, self._arrival, at_s=at_s)


def _measured(speeds: Mapping[str, EngineSpeed], simulation: Simulation) -> Iterator[MeasuredRates]:
    """What `breakeven calibrate` would measure of these engines at saturation."""
    for name, speed in speeds.items():
        yield MeasuredRates(
            target=name,
            prefill_tokens_per_s=speed.full_prefill_tokens_per_s,
            decode_tokens_per_s=speed.full_decode_tokens_per_s,
            model=simulation.policy.targets[name].model,
            engine_version="simulated",
            measured_at_s=simulation.began_us // _MICROSECONDS,
            concurrency=speed.sequences_most,
        )


def _marginal_ppm(target: Target) -> int:
    return target.marginal_ppm if target.hosting is Hosting.SELF_HOSTED else _MICROSECONDS


def _day(at_us: int) -> date:
    return datetime.fromtimestamp(at_us / _MICROSECONDS, UTC).date()
