"""The decision: rule → filter → score → pick. A pure function of its two arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from app.domain.budget import Budget, PastStep
from app.domain.pricing.charge import charge
from app.domain.routing.facts import RequestFacts
from app.domain.routing.filters import FILTERS, FILTERS_THAT_WAIT, has_its_turn_in_time
from app.domain.routing.last_resort import last_resort
from app.domain.routing.names import names_for_conditions
from app.domain.routing.past import degraded_rule, reject_the_others, said, steps_reached
from app.domain.routing.plan import NOTHING_ELSE, Candidate, Plan, Refusal, RefusalReason, Witness
from app.domain.routing.policy import Route, Rule
from app.domain.routing.ranking import Contender, home_of, ranked
from app.domain.routing.scorers import expected_usage, is_drawn
from app.domain.routing.snapshot import UNSEEN, Snapshot, spill_key
from app.domain.routing.spilling import hold_back_the_slow, reject_over_the_cap
from app.domain.target import Hosting


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
            witness=_witness(route, None, facts, snapshot),
        )
    contenders = _judged(rule, facts, snapshot)
    if rule.waits:
        _reject_late_turns(contenders, facts, route)
    witness = _witness(route, rule, facts, snapshot)
    reached = _steps_reached(facts, snapshot)
    if reached:
        rule = degraded_rule(rule, reached)
    reject_others = _by_the_policy(rule, reached, witness)
    reject_others(contenders)
    if rule.spill is not None:
        hold_back_the_slow(contenders, spill=rule.spill)
    passed = [one for one in contenders if one.rejected is None]
    passed = passed or last_resort(contenders, facts, rule, reject_others=reject_others)
    if not passed:
        _estimate(contenders, facts, route, home=None)
        return _nobody(facts, rule, contenders, witness)
    home = home_of(passed, rule=rule, facts=facts)
    _estimate(contenders, facts, route, home=home)
    order = ranked(passed, rule=rule, facts=facts, home=home)
    return Plan(
        rule=rule.name,
        prefer=rule.prefer.value,
        order=order,
        candidates=_candidates(contenders, order),
        home=home,
        spilled=rule.spill is not None and _spilled(passed, pick=order[0]),
        shadow=_shadow(rule, facts, snapshot, pick=order[0]),
        past="; ".join(said(budget, step) for budget, step in reached) if reached else None,
        witness=witness,
    )


def _first_match(route: Route, facts: RequestFacts, snapshot: Snapshot) -> Rule | None:
    names: Mapping[str, object] | None = None
    for rule in route.rules:
        if rule.when is None:
            return rule
        if names is None:
            names = names_for_conditions(facts, route=route, snapshot=snapshot)
            if route.prepare is not None:
                names = route.prepare(names)
        if rule.when.holds(names):
            return rule
    return None


def _judged(rule: Rule, facts: RequestFacts, snapshot: Snapshot) -> list[Contender]:
    filters = FILTERS_THAT_WAIT if rule.waits else FILTERS
    contenders = []
    for name in rule.use:
        target = snapshot.policy.targets[name]
        seen = snapshot.fleet.get(name, UNSEEN)
        contender = Contender(target, seen, prompt_tokens=facts.prompt_tokens)
        for filter_name, reason_to_reject in filters:
            reason = reason_to_reject(facts, target, seen)
            if reason is not None:
                contender.rejected, contender.filter = reason, filter_name
                break
        contenders.append(contender)
    return contenders


def _reject_late_turns(contenders: Sequence[Contender], facts: RequestFacts, route: Route) -> None:
    within_s = route.timeouts.in_queue_s
    if facts.deadline_s is not None:
        within_s = min(within_s, facts.deadline_s)
    for one in contenders:
        if one.rejected is None and one.seen.queue is not None:
            one.rejected = has_its_turn_in_time(one.seen, within_s=within_s)
            one.filter = None if one.rejected is None else "queue"


def _steps_reached(facts: RequestFacts, snapshot: Snapshot) -> Sequence[tuple[Budget, PastStep]]:
    degrading = snapshot.policy.degrading
    return steps_reached(degrading, facts, snapshot.budgets) if degrading else ()


def _by_the_policy(
    rule: Rule, reached: Sequence[tuple[Budget, PastStep]], witness: Witness
) -> Callable[[Sequence[Contender]], None]:
    """What rejects targets besides the filters: steps of budgets, and the rule's cap on spilling."""

    def reject_others(contenders: Sequence[Contender]) -> None:
        if reached:
            reject_the_others(contenders, reached)
        if rule.spill is not None:
            reject_over_the_cap(contenders, spill=rule.spill, spent=witness.spill_spent)

    return reject_others


def _spilled(passed: Sequence[Contender], *, pick: str) -> bool:
    """True when the pick is managed and a machine of ours stands back because it is slow."""
    left = any(one.held_back is not None for one in passed)
    return left and any(one.target.name == pick and one.target.hosting is Hosting.MANAGED for one in passed)


def _witness(route: Route, rule: Rule | None, facts: RequestFacts, snapshot: Snapshot) -> Witness:
    capped = rule is not None and rule.spill is not None and rule.spill.most_per_hour is not None
    shadow = None if rule is None else rule.shadow
    budgets = route.reads_budgets
    if snapshot.policy.degrading:
        ours = [each.name for each in snapshot.policy.degrading if each.is_of(caller=facts.caller, model=facts.model)]
        budgets = tuple(sorted({*budgets, *ours}))
    if not (capped or shadow or route.reads_fleet or budgets):
        return NOTHING_ELSE
    used = () if rule is None else rule.use
    read = route.reads_fleet if shadow is None else (*route.reads_fleet, shadow.target)
    key = "" if rule is None else spill_key(model=route.model, rule=rule.name)
    return Witness(
        fleet={
            name: snapshot.fleet[name].recorded(prompt_tokens=facts.prompt_tokens)
            for name in read
            if name not in used and name in snapshot.fleet
        },
        budgets={name: snapshot.budgets[name] for name in budgets if name in snapshot.budgets},
        spill_spent=snapshot.spill_spent.get(key) if capped else None,
    )


def _estimate(contenders: Sequence[Contender], facts: RequestFacts, route: Route, *, home: str | None) -> None:
    cold = expected_usage(facts=facts, route=route)
    for one in contenders:
        usage = cold
        if one.target.name == home:
            usage = expected_usage(facts=facts, route=route, cached_tokens=facts.prefix_tokens)
            one.cached_tokens = usage.cached
            one.predicted_ttft_ms = one.seen.expected_ttft_ms(prompt_tokens=facts.prompt_tokens - usage.cached)
        if one.seen.rate_card is not None:
            one.expected_charge = charge(usage=usage, price=one.seen.rate_card)
            one.seen = one.seen.recorded(prompt_tokens=facts.prompt_tokens)


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
            predicted_ttft_ms=None if one.seen.prefill_tokens_per_s is None else one.predicted_ttft_ms,
            seen=one.seen,
        )
        for one in contenders
    )


def _shadow(rule: Rule, facts: RequestFacts, snapshot: Snapshot, *, pick: str) -> str | None:
    """The target that gets a copy, where this request is drawn for one and that target, not the pick, could serve."""
    shadow = rule.shadow
    if shadow is None or shadow.target == pick:
        return None
    if not is_drawn(shadow.share_ppm, drawn_by=f"{facts.request_id}#shadow"):
        return None
    target = snapshot.policy.targets[shadow.target]
    seen = snapshot.fleet.get(shadow.target, UNSEEN)
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
