"""A scenario: a request in a described world, and what has to be decided then. It runs through the same `decide`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal

from app.domain.budget import BudgetSeen
from app.domain.money import Nanodollars
from app.domain.pricing.rate_card import RateCard
from app.domain.pricing.self_host import MeasuredRates, standard_card
from app.domain.routing.decide import decide
from app.domain.routing.facts import RequestFacts
from app.domain.routing.plan import Plan, Refusal, RefusalReason
from app.domain.routing.policy import Policy
from app.domain.routing.snapshot import Snapshot, spill_key
from app.domain.target import Target, TargetSeen

#: Stands for the speed of a machine that is only measured where it runs, in tokens per second.
ASSUMED_PREFILL_TOKENS_PER_S = Decimal(10_000)
ASSUMED_DECODE_TOKENS_PER_S = Decimal(2_000)
#: What `Expected.shadow` says when no target may get a copy.
NO_SHADOW = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What has to come out; what is None or empty is not asked for."""

    rule: str | None = None
    #: The first of the order.
    first: str | None = None
    #: The whole order.
    order: tuple[str, ...] | None = None
    refused: RefusalReason | None = None
    #: Targets that get neither the request nor a copy, first or as a fallback.
    never: tuple[str, ...] = ()
    spilled: bool | None = None
    #: The target that gets a copy, or NO_SHADOW.
    shadow: str | None = None
    #: By target: the filter that rejects it or holds it back.
    filters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`facts.model` is a route of the policy. What `fleet` does not name is at rest; `at` is aware, in the policy's
    timezone; `budgets` has every budget of the policy."""

    name: str
    facts: RequestFacts
    at: datetime
    expected: Expected
    fleet: Mapping[str, TargetSeen] = field(default_factory=dict)
    budgets: Mapping[str, BudgetSeen] = field(default_factory=dict)
    #: What every rule of the model has spilled in the hour before.
    spill_spent: Nanodollars | None = None
    #: Where it is written; counted from 1.
    file: str = ""
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a scenario. `differences` are sentences, one for each expectation that was not met."""

    scenario: Scenario
    decision: Plan | Refusal
    differences: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Everything came as expected."""
        return not self.differences


def run_scenarios(scenarios: Iterable[Scenario], policy: Policy) -> tuple[Verdict, ...]:
    """A verdict for each, in their order."""
    at_rest = fleet_at_rest(policy)
    return tuple(run_scenario(scenario, policy, at_rest=at_rest) for scenario in scenarios)


def run_scenario(scenario: Scenario, policy: Policy, *, at_rest: Mapping[str, TargetSeen] | None = None) -> Verdict:
    """Decide in the scenario's world under `policy`. `at_rest` is `fleet_at_rest(policy)`, for whoever has it."""
    decision = decide(scenario.facts, world_of(scenario, policy, at_rest=at_rest))
    return Verdict(
        scenario=scenario, decision=decision, differences=tuple(_differences(scenario.expected, decision=decision))
    )


def world_of(scenario: Scenario, policy: Policy, *, at_rest: Mapping[str, TargetSeen] | None = None) -> Snapshot:
    """The snapshot that the scenario describes, with `policy` in force."""
    spent = scenario.spill_spent
    model = scenario.facts.model
    keys = () if spent is None else (spill_key(model=model, rule=rule.name) for rule in policy.routes[model].rules)
    return Snapshot(
        policy=policy,
        fleet={
            **(fleet_at_rest(policy) if at_rest is None else at_rest),
            **_prices_of_the_day(policy, scenario.at.astimezone(UTC).date()),
            **scenario.fleet,
        },
        at=scenario.at,
        budgets=scenario.budgets,
        spill_spent={} if spent is None else dict.fromkeys(keys, spent),
    )


def _prices_of_the_day(policy: Policy, day: date) -> Mapping[str, TargetSeen]:
    """Targets at rest whose price changes, at that of the day."""
    changing = (target for target in policy.targets.values() if target.price_list)
    return {target.name: TargetSeen(rate_card=target.price_of(day)) for target in changing}


def fleet_at_rest(policy: Policy) -> Mapping[str, TargetSeen]:
    """Every target of the policy as it is on a quiet day: idle, circuit closed, credential there, price known."""
    return {name: TargetSeen(rate_card=price_at_rest(target, policy)) for name, target in policy.targets.items()}


def price_at_rest(target: Target, policy: Policy) -> RateCard | None:
    """The policy's price, of several the last. A self-hosted target that is only measured where it runs gets one from
    its machine's price at an assumed speed (10,000 prompt and 2,000 output tokens a second). None: there is no price
    of the machine."""
    usd_per_hour = policy.usd_per_hour(target)
    if target.rate_card is not None or usd_per_hour is None:
        return target.rate_card
    rates = MeasuredRates(
        target=target.name,
        prefill_tokens_per_s=ASSUMED_PREFILL_TOKENS_PER_S,
        decode_tokens_per_s=ASSUMED_DECODE_TOKENS_PER_S,
        model=target.model,
        engine_version="assumed",
    )
    return standard_card(usd_per_hour=usd_per_hour, rates=rates, origin="assumed speed")


def _differences(expected: Expected, *, decision: Plan | Refusal) -> Iterator[str]:
    order = decision.order if isinstance(decision, Plan) else ()
    shadow = decision.shadow if isinstance(decision, Plan) else None
    came = _came(decision)
    if expected.refused is not None and not _is_refused(decision, expected.refused):
        yield f"expected a refusal ({expected.refused.value}), but {came}"
    if expected.rule is not None and decision.rule != expected.rule:
        yield f'expected rule "{expected.rule}", but {_matched(decision)}'
    if expected.first is not None and order[:1] != (expected.first,):
        yield f'expected "{expected.first}" first, but {came}{_because(expected.first, decision)}'
    if expected.order is not None and order != expected.order:
        yield f"expected the order {', '.join(expected.order)}, but {came}"
    for name in expected.never:
        if name in order:
            yield f'"{name}" must never be asked, but it is {_place(order.index(name))}'
        if name == shadow:
            yield f'"{name}" must never be asked, but it gets a copy of the request'
    if expected.spilled is not None and expected.spilled != (isinstance(decision, Plan) and decision.spilled):
        yield f"expected {'a' if expected.spilled else 'no'} spill, but {came}"
    if expected.shadow is not None and expected.shadow != (shadow or NO_SHADOW):
        yield f"expected the shadow {expected.shadow}, but it is {shadow or NO_SHADOW}"
    yield from _filter_differences(expected.filters, decision=decision)


def _filter_differences(filters: Mapping[str, str], *, decision: Plan | Refusal) -> Iterator[str]:
    found = {candidate.target: candidate.filter for candidate in decision.candidates}
    for name, wanted in filters.items():
        if name not in found:
            yield f'expected the filter {wanted} to stop "{name}", but {_matched(decision)}, which does not use it'
        elif found[name] != wanted:
            met = "it passed every filter" if found[name] is None else f"the filter {found[name]} did"
            yield f'expected the filter {wanted} to stop "{name}", but {met}'


def _is_refused(decision: Plan | Refusal, reason: RefusalReason) -> bool:
    return isinstance(decision, Refusal) and decision.reason is reason


def _came(decision: Plan | Refusal) -> str:
    if isinstance(decision, Refusal):
        return f"the request is refused ({decision.reason.value}): {decision.message}"
    return f'rule "{decision.rule}" gives {", ".join(decision.order)}'


def _matched(decision: Plan | Refusal) -> str:
    return "no rule matched" if decision.rule is None else f'rule "{decision.rule}" matched'


def _because(name: str, decision: Plan | Refusal) -> str:
    if isinstance(decision, Refusal):
        return ""
    reasons = [one.rejected or one.held_back for one in decision.candidates if one.target == name]
    return f" ({name}: {reasons[0]})" if reasons and reasons[0] else ""


def _place(place: int) -> str:
    return "the first choice" if place == 0 else f"fallback {place}"
