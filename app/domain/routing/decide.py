"""The decision: rule → filter → score → pick. A pure function of its two arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.domain.routing.facts import RequestFacts
from app.domain.routing.filters import FILTERS, FILTERS_THAT_WAIT
from app.domain.routing.names import names_for_conditions
from app.domain.routing.plan import NOTHING_ELSE, Candidate, Plan, Refusal, RefusalReason, Witness
from app.domain.routing.policy import Route, Rule
from app.domain.routing.ranking import Contender, ranked
from app.domain.routing.scorers import expected_charge, is_drawn, session_home, session_ring
from app.domain.routing.snapshot import Snapshot, spill_key
from app.domain.routing.spilling import hold_back_the_slow, reject_over_the_cap
from app.domain.target import Hosting, TargetSeen

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
            witness=_witness(route, None, snapshot),
        )
    contenders = [_judged(name, facts, rule, snapshot) for name in rule.use]
    witness = _witness(route, rule, snapshot)
    if rule.spill is not None:
        reject_over_the_cap(contenders, spill=rule.spill, spent=witness.spill_spent)
        hold_back_the_slow(contenders, spill=rule.spill)
    passed = [one for one in contenders if one.rejected is None]
    if not passed:
        _estimate(contenders, facts, route, home=None)
        return _nobody(facts, rule, contenders, witness)
    home = _home(passed, rule, facts)
    _estimate(contenders, facts, route, home=home)
    order = ranked(passed, rule=rule, facts=facts, home=home)
    return Plan(
        rule=rule.name,
        prefer=rule.prefer.value,
        order=order,
        candidates=_candidates(contenders, order),
        home=home,
        spilled=_spilled(passed, first=order[0]),
        shadow=_shadow(rule, facts, snapshot),
        witness=witness,
    )


def _first_match(route: Route, facts: RequestFacts, snapshot: Snapshot) -> Rule | None:
    names: Mapping[str, object] | None = None
    for rule in route.rules:
        if rule.when is None:
            return rule
        if names is None:
            names = names_for_conditions(facts, route=route, snapshot=snapshot)
        if rule.when.holds(names):
            return rule
    return None


def _judged(name: str, facts: RequestFacts, rule: Rule, snapshot: Snapshot) -> Contender:
    target = snapshot.policy.targets[name]
    seen = snapshot.fleet.get(name, _UNSEEN)
    contender = Contender(target, seen)
    for filter_name, reason_to_reject in FILTERS_THAT_WAIT if rule.waits else FILTERS:
        reason = reason_to_reject(facts, target, seen)
        if reason is not None:
            contender.rejected, contender.filter = reason, filter_name
            break
    return contender


def _spilled(passed: Sequence[Contender], *, first: str) -> bool:
    """True when somebody stands back behind the pick because it is slow."""
    held_back = {one.target.name for one in passed if one.held_back is not None}
    return bool(held_back) and first not in held_back


def _witness(route: Route, rule: Rule | None, snapshot: Snapshot) -> Witness:
    capped = rule is not None and rule.spill is not None and rule.spill.most_per_hour is not None
    shadow = None if rule is None else rule.shadow
    if not (capped or shadow or route.reads_fleet or route.reads_budgets):
        return NOTHING_ELSE
    used = () if rule is None else rule.use
    read = route.reads_fleet if shadow is None else (*route.reads_fleet, shadow.target)
    key = "" if rule is None else spill_key(model=route.model, rule=rule.name)
    return Witness(
        fleet={name: snapshot.fleet[name] for name in read if name not in used and name in snapshot.fleet},
        budgets={name: snapshot.budgets[name] for name in route.reads_budgets if name in snapshot.budgets},
        spill_spent=snapshot.spill_spent.get(key) if capped else None,
    )


def _home(passed: Sequence[Contender], rule: Rule, facts: RequestFacts) -> str | None:
    """Whose prefix cache this conversation is in: one of our own machines, if any may serve."""
    if not (rule.keeps_sessions and facts.session):
        return None
    ready = [one for one in passed if one.held_back is None] or passed
    ours = [one for one in ready if one.target.hosting is Hosting.SELF_HOSTED] or ready
    ring = session_ring([one.target.name for one in ours], session=facts.session)
    return session_home(ring, in_flight={one.target.name: one.seen.in_flight for one in ours})


def _estimate(contenders: Sequence[Contender], facts: RequestFacts, route: Route, *, home: str | None) -> None:
    for one in contenders:
        if one.target.name == home:
            one.cached_tokens = min(facts.prefix_tokens, facts.prompt_tokens)
        if one.seen.rate_card is not None:
            one.expected_charge = expected_charge(
                facts=facts, route=route, price=one.seen.rate_card, cached_tokens=one.cached_tokens
            )


def _candidates(contenders: Sequence[Contender], order: Sequence[str]) -> tuple[Candidate, ...]:
    places = {name: place for place, name in enumerate(order)}
    return tuple(
        Candidate(
            target=one.target.name,
            rejected=one.rejected,
            filter=one.filter,
            held_back=one.held_back,
            expected_charge=one.expected_charge,
            cached_tokens=one.cached_tokens,
            marginal_charge=one.marginal_charge,
            waiting_charge=one.waiting_charge,
            place=places.get(one.target.name),
            seen=one.seen,
        )
        for one in contenders
    )


def _shadow(rule: Rule, facts: RequestFacts, snapshot: Snapshot) -> str | None:
    """The target that gets a copy, where this request is drawn for one and that target could serve it."""
    shadow = rule.shadow
    if shadow is None or not is_drawn(shadow.share_ppm, drawn_by=f"{facts.request_id}#shadow"):
        return None
    target = snapshot.policy.targets[shadow.target]
    seen = snapshot.fleet.get(shadow.target, _UNSEEN)
    fits = all(reason_to_reject(facts, target, seen) is None for _, reason_to_reject in FILTERS)
    return shadow.target if fits else None


def _nobody(facts: RequestFacts, rule: Rule, contenders: Sequence[Contender], witness: Witness) -> Refusal:
    reasons = "; ".join(f"{one.target.name}: {one.rejected}" for one in contenders)
    return Refusal(
        reason=RefusalReason.NO_TARGET,
        rule=rule.name,
        message=f'no target may serve model "{facts.model}" now (rule "{rule.name}"): {reasons}',
        candidates=_candidates(contenders, ()),
        witness=witness,
    )
