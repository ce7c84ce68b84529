"""A decision in sentences, for people, and as a JSON-ready mapping, for pages and programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from app.domain.money import Nanodollars, shown
from app.domain.routing.names import budget_names, target_names
from app.domain.routing.plan import Candidate, Plan, Refusal, Witness
from app.domain.target import QueueSeen


def explain(decision: Plan | Refusal) -> tuple[str, ...]:
    """The rule and the pick; then one sentence for each candidate, in the order the rule lists them; then what else was
    looked at."""
    return (
        *(_about_the_plan(decision) if isinstance(decision, Plan) else _about_the_refusal(decision)),
        *(_sentence(one, decision) for one in decision.candidates),
        *_about_the_rest(decision.witness),
    )


def explained(decision: Plan | Refusal) -> dict[str, object]:
    """The same as plain values that JSON can hold. Both kinds of decision have every key; what does not apply is None.

    Amounts are exact decimal strings in USD. A candidate's `role` is first, fallback or rejected.
    """
    plan = decision if isinstance(decision, Plan) else None
    refusal = decision if isinstance(decision, Refusal) else None
    return {
        "object": "decision",
        "decision": "refusal" if plan is None else "plan",
        "rule": decision.rule,
        "refused": None if refusal is None else refusal.reason.value,
        "message": None if refusal is None else refusal.message,
        "prefer": None if plan is None else plan.prefer,
        "order": [] if plan is None else list(plan.order),
        "home": None if plan is None else plan.home,
        "spilled": plan is not None and plan.spilled,
        "past": None if plan is None else plan.past,
        "shadow": None if plan is None else plan.shadow,
        "runner_up": None if plan is None else _runner_up(plan),
        "candidates": [_candidate_view(one) for one in decision.candidates],
        "witness": _witness_view(decision.witness),
        "sentences": list(explain(decision)),
    }


def _about_the_plan(plan: Plan) -> Iterator[str]:
    first = plan.order[0]
    yield f'Rule "{plan.rule}" matched; it prefers {plan.prefer}; first choice: {first}.'
    if plan.past is not None:
        yield f"{plan.past[0].upper()}{plan.past[1:]}, and the policy has a step for that."
    if plan.spilled:
        yield "The request spills: our own machines are predicted to be slow."
    if plan.home is not None and plan.home == first:
        yield f"The conversation is kept with {first}."
    elif plan.home is not None:
        yield f"The conversation would be kept with {plan.home}, but {first} is ahead of it."
    if plan.shadow is not None:
        yield f"A copy goes to {plan.shadow}; its answer is measured and thrown away."


def _about_the_refusal(refusal: Refusal) -> Iterator[str]:
    yield f'Refused by rule "{refusal.rule}".' if refusal.rule else f"Refused: {refusal.message}."


def _sentence(one: Candidate, decision: Plan | Refusal) -> str:
    if one.place is None:
        return f"{one.target} was not taken: {one.rejected}."
    role = "was the first choice" if one.place == 0 else f"stood by as fallback {one.place}"
    behind = "" if one.held_back is None else f", behind all others ({one.held_back})"
    return f"{one.target} {role}{behind}: {', '.join(_figures(one, decision))}."


def _figures(one: Candidate, decision: Plan | Refusal) -> Iterator[str]:
    yield f"{one.seen.in_flight} in flight"
    if one.seen.queue is not None and one.place is not None:
        yield f"full, with {one.seen.queue.ahead} ahead in its queue{_turn(one.seen.queue)}"
    if one.expected_ttft_ms is not None:
        yield f"first token predicted after {one.expected_ttft_ms:.0f} ms"
    if one.expected_charge is not None:
        cached = f" with {one.cached_tokens} prompt tokens cached" if one.cached_tokens else ""
        yield f"expected charge ${shown(one.expected_charge)}{cached}"
    if one.marginal_charge is not None and one.marginal_charge != one.expected_charge:
        yield f"one request more there really costs ${shown(one.marginal_charge)}"
    if one.waiting_charge:
        yield f"waiting for it is worth ${shown(one.waiting_charge)}"
    more = _more_than_the_pick(one, decision) if one.place else None
    if more is not None:
        pick = _pick(decision).target
        yield f"${shown(Nanodollars(abs(more)))} {'more' if more > 0 else 'less'} than {pick}" if more else f"as {pick}"


def _turn(queue: QueueSeen) -> str:
    if queue.predicted_wait_ms is None:
        return ""
    return f" and its turn predicted after {queue.predicted_wait_ms:.0f} ms"


def _about_the_rest(witness: Witness) -> Iterator[str]:
    for name, seen in witness.fleet.items():
        yield f"{name}, which the rule does not use, was looked at: {_listed(target_names(seen))}."
    for name, budget in witness.budgets.items():
        yield f"Budget {name} was looked at: {_listed(budget_names(budget))}."
    if witness.spill_spent is not None:
        yield f"The rule had spent ${shown(witness.spill_spent)} at managed targets in the hour before."


def _runner_up(plan: Plan) -> dict[str, object] | None:
    """Who comes second, and what it would have cost more; None where nobody does."""
    if len(plan.order) == 1:
        return None
    second = next(one for one in plan.candidates if one.place == 1)
    more = _more_than_the_pick(second, plan)
    return {
        "target": second.target,
        "more_usd": _usd(more),
        "counts": "expected charge" if second.marginal_charge is None else "score",
    }


def _more_than_the_pick(one: Candidate, decision: Plan | Refusal) -> Nanodollars | None:
    """In the terms in which the rule compared them: the score, or where it has none the expected charge."""
    here, there = _compared(one), _compared(_pick(decision))
    return None if here is None or there is None else Nanodollars(here - there)


def _compared(one: Candidate) -> Nanodollars | None:
    if one.marginal_charge is None:
        return one.expected_charge
    return Nanodollars(one.marginal_charge + (one.waiting_charge or 0))


def _pick(decision: Plan | Refusal) -> Candidate:
    return next(one for one in decision.candidates if one.place == 0)


def _candidate_view(one: Candidate) -> dict[str, object]:
    role = "rejected" if one.place is None else "fallback" if one.place else "first"
    return {
        "target": one.target,
        "role": role,
        "place": one.place,
        "filter": one.filter,
        "rejected": one.rejected,
        "held_back": one.held_back,
        "expected_charge_usd": _usd(one.expected_charge),
        "cached_tokens": one.cached_tokens,
        "predicted_ttft_ms": one.expected_ttft_ms,
        "marginal_charge_usd": _usd(one.marginal_charge),
        "waiting_charge_usd": _usd(one.waiting_charge),
        "seen": {
            **target_names(one.seen),
            "credential_present": one.seen.credential_present,
            "rate_card": None if one.seen.rate_card is None else one.seen.rate_card.digest,
            "requests_left": one.seen.requests_left,
            "tokens_left": one.seen.tokens_left,
            "queue": None if one.seen.queue is None else _queue_view(one.seen.queue),
        },
    }


def _queue_view(queue: QueueSeen) -> dict[str, object]:
    return {
        "waiting": queue.waiting,
        "ahead": queue.ahead,
        "predicted_wait_ms": queue.predicted_wait_ms,
        "is_full": queue.is_full,
    }


def _witness_view(witness: Witness) -> dict[str, object]:
    return {
        "fleet": {name: dict(target_names(seen)) for name, seen in witness.fleet.items()},
        "budgets": {name: dict(budget_names(seen)) for name, seen in witness.budgets.items()},
        "spill_spent_usd": _usd(witness.spill_spent),
    }


def _usd(amount: Nanodollars | None) -> str | None:
    return None if amount is None else shown(amount)


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_plain(value)}" for name, value in names.items())


def _plain(value: object) -> str:
    """A figure as people read it: no exponent, one decimal to six."""
    if not isinstance(value, float):
        return str(value)
    short = f"{value:.6f}".rstrip("0")
    return f"{short}0" if short.endswith(".") else short
