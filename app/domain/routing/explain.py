"""A decision in sentences, for people."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.money import shown
from app.domain.routing.plan import Candidate, Plan, Refusal


def explain(decision: Plan | Refusal) -> tuple[str, ...]:
    """One sentence for the rule, then one for each candidate in the order the rule lists them."""
    if isinstance(decision, Refusal):
        head = f'Refused by rule "{decision.rule}".' if decision.rule else f"Refused: {decision.message}."
        return (head, *_about(decision.candidates))
    head = f'Rule "{decision.rule}" matched; it prefers {decision.prefer}; first choice: {decision.order[0]}.'
    return (head, *_about(decision.candidates))


def _about(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    return tuple(_sentence(candidate) for candidate in candidates)


def _sentence(candidate: Candidate) -> str:
    if candidate.rejected is not None:
        return f"{candidate.target} was not taken: {candidate.rejected}."
    price = "" if candidate.expected_charge is None else f", expected charge ${shown(candidate.expected_charge)}"
    role = "was the first choice" if candidate.place == 0 else f"stood by as fallback {candidate.place}"
    return f"{candidate.target} {role}: {candidate.seen.in_flight} in flight{price}."
