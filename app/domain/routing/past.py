"""What changes for a request once a part of a budget that it spends from is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from app.domain.budget import Budget, BudgetSeen, PastStep
from app.domain.figures import in_digits
from app.domain.routing.facts import RequestFacts
from app.domain.routing.policy import Preference, Rule
from app.domain.routing.ranking import Contender

MILLION = 1_000_000


def steps_reached(
    budgets: Sequence[Budget], facts: RequestFacts, seen: Mapping[str, BudgetSeen]
) -> Sequence[tuple[Budget, PastStep]]:
    """Of each budget that the request spends from, the last step that is reached; a step replaces those before it.

    A budget that nobody has looked up yet has reached none.
    """
    reached = []
    for budget in budgets:
        if budget.name in seen and budget.is_of(caller=facts.caller, model=facts.model):
            used_ppm = seen[budget.name].used * MILLION
            steps = [step for step in budget.past if used_ppm >= step.from_ppm]
            if steps:
                reached.append((budget, steps[-1]))
    return reached


def degraded_rule(rule: Rule, reached: Sequence[tuple[Budget, PastStep]]) -> Rule:
    """The rule with price before its own order, where a step says so. Weights are nobody's then."""
    if any(step.prefer_cheapest for _, step in reached):
        return replace(rule, prefer=Preference.CHEAPEST)
    return rule


def reject_the_others(contenders: Sequence[Contender], reached: Sequence[tuple[Budget, PastStep]]) -> None:
    """Targets that a step leaves out may not serve."""
    for budget, step in reached:
        for one in contenders:
            if step.only and one.rejected is None and one.target.name not in step.only:
                one.filter = "budget"
                one.rejected = f"{said(budget, step)}: only {', '.join(step.only)} may serve"


def said(budget: Budget, step: PastStep) -> str:
    """Which step of which budget it is, for people."""
    return f'the budget "{budget.name}" is past {in_digits(step.from_ppm / MILLION, significant=6)} of its amount'
