"""The decision: rule → filter → order. A pure function of its two arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.domain.money import Nanodollars
from app.domain.routing.facts import RequestFacts, names_for_conditions
from app.domain.routing.filters import FILTERS
from app.domain.routing.plan import Candidate, Plan, Refusal, RefusalReason
from app.domain.routing.policy import Preference, Route, Rule
from app.domain.routing.scorers import cheapest_first, expected_charge, weighted_draw
from app.domain.routing.snapshot import Snapshot
from app.domain.target import Target, TargetSeen

_UNSEEN = TargetSeen()


def decide(facts: RequestFacts, snapshot: Snapshot) -> Plan | Refusal:
    """Where this request goes, and why. `facts.model` must be a route of the policy (the caller checks that first).

    The same arguments give the same answer, always. Never raises for a compiled policy.
    """
    route = snapshot.policy.routes[facts.model]
    rule = _first_match(route, facts, snapshot)
    if rule is None:
        return Refusal(
            reason=RefusalReason.NO_RULE,
            rule=None,
            message=f'no rule of model "{facts.model}" matches this request; end its rules with one that has no `when`',
        )
    candidates = [_judged(name, facts, route, snapshot) for name in rule.use]
    passed = [candidate.target for candidate in candidates if candidate.rejected is None]
    if not passed:
        return _nobody(facts, rule, candidates)
    order = _ordered(passed, facts, rule, candidates)
    places = {name: place for place, name in enumerate(order)}
    return Plan(
        rule=rule.name,
        prefer=rule.prefer.value,
        order=order,
        candidates=tuple(_placed(candidate, places) for candidate in candidates),
    )


def _first_match(route: Route, facts: RequestFacts, snapshot: Snapshot) -> Rule | None:
    names: Mapping[str, object] | None = None
    for rule in route.rules:
        if rule.when is None:
            return rule
        if names is None:
            names = names_for_conditions(facts, at=snapshot.at)
        if rule.when.holds(names):
            return rule
    return None


def _judged(name: str, facts: RequestFacts, route: Route, snapshot: Snapshot) -> Candidate:
    target: Target = snapshot.policy.targets[name]
    seen = snapshot.fleet.get(name, _UNSEEN)
    price = seen.rate_card
    expected = None if price is None else expected_charge(facts=facts, route=route, price=price)
    for filter_name, reason_to_reject in FILTERS:
        reason = reason_to_reject(facts, target, seen)
        if reason is not None:
            return Candidate(target=name, rejected=reason, filter=filter_name, expected_charge=expected, seen=seen)
    return Candidate(target=name, rejected=None, expected_charge=expected, seen=seen)


def _ordered(
    passed: Sequence[str], facts: RequestFacts, rule: Rule, candidates: Sequence[Candidate]
) -> tuple[str, ...]:
    match rule.prefer:
        case Preference.LISTED:
            return tuple(passed)
        case Preference.CHEAPEST:
            charges: dict[str, Nanodollars] = {
                candidate.target: candidate.expected_charge
                for candidate in candidates
                if candidate.expected_charge is not None
            }
            return cheapest_first(passed, charges=charges)
        case Preference.WEIGHTED:
            return weighted_draw(passed, weights=rule.weights, request_id=facts.request_id)


def _placed(candidate: Candidate, places: Mapping[str, int]) -> Candidate:
    if candidate.rejected is not None:
        return candidate
    return Candidate(
        target=candidate.target,
        rejected=None,
        expected_charge=candidate.expected_charge,
        place=places[candidate.target],
        seen=candidate.seen,
    )


def _nobody(facts: RequestFacts, rule: Rule, candidates: Sequence[Candidate]) -> Refusal:
    reasons = "; ".join(f"{candidate.target}: {candidate.rejected}" for candidate in candidates)
    return Refusal(
        reason=RefusalReason.NO_TARGET,
        rule=rule.name,
        message=f'no target may serve model "{facts.model}" now (rule "{rule.name}"): {reasons}',
        candidates=tuple(candidates),
    )
