"""What a schema cannot see of budgets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from app.documents.budgets import WrittenBudget
from app.documents.conditions import CelCondition
from app.documents.gather import Gathered, Placed
from app.documents.nearest import mend_for
from app.domain.findings import Finding, Severity


def lint_budgets(gathered: Gathered, conditions: Mapping[tuple[str, int], CelCondition]) -> Iterator[Finding]:
    """Budgets of unknown models and targets, budgets that count the same, steps that never come, budgets that are only
    watched and that nothing depends on. Only asked when every file could be read."""
    first: dict[tuple[object, ...], str] = {}
    for name, placed in gathered.budgets.items():
        written = placed.written
        if written is None:
            continue
        yield from _unknown_names(placed, written, gathered)
        yield from _steps(placed, written)
        same = (written.of.whose, written.every)
        if same in first:
            message = f'"{name}" counts the same money in the same periods as "{first[same]}"'
            yield placed.finding("duplicate-budget", message, mend="remove one of them", severity=Severity.WARNING)
        first.setdefault(same, name)
    yield from _watched_by_nobody(gathered, conditions)


def _unknown_names(placed: Placed[WrittenBudget], budget: WrittenBudget, gathered: Gathered) -> Iterator[Finding]:
    model = budget.of.model
    if model is not None and model not in gathered.models:
        message = f'the budget "{placed.name}" counts the model "{model}", which no file has'
        mend = mend_for(model, gathered.models, what="models")
        yield placed.finding("unknown-model", message, below=("of", "model"), mend=mend)
    for part, step in budget.past.items():
        for index, target in enumerate([] if isinstance(step, str) else step.only or []):
            if target not in gathered.targets:
                message = f'the budget "{placed.name}" names the target "{target}", which no file has'
                mend = mend_for(target, gathered.targets, what="targets")
                yield placed.finding("unknown-target", message, below=("past", part, "only", index), mend=mend)


def _steps(placed: Placed[WrittenBudget], budget: WrittenBudget) -> Iterator[Finding]:
    seen: dict[Decimal, str] = {}
    for part, step in budget.past.items():
        number = Decimal(part)
        if number in seen:
            message = f"the steps {seen[number]} and {part} begin at the same part"
            yield placed.finding("duplicate-step", message, below=("past", part), at_key=True, mend="keep one of them")
        seen[number] = part
        if step == "refuse" and number != 1:
            message = f"a budget refuses when all of it is spent, not at {part} of it"
            mend = "lower `usd`, or write 1.0: refuse"
            yield placed.finding("early-refusal", message, below=("past", part), mend=mend)
        elif not isinstance(step, str) and step.prefer is None and step.only is None:
            yield placed.finding(
                "empty-step", "the step changes nothing", below=("past", part), mend="write `only` or `prefer`"
            )
    if len(set(budget.warn_at)) < len(budget.warn_at):
        yield placed.finding(
            "duplicate-warning", "a part stands twice in `warn_at`", below=("warn_at",), mend="keep one"
        )


def _watched_by_nobody(gathered: Gathered, conditions: Mapping[tuple[str, int], CelCondition]) -> Iterator[Finding]:
    read = {name for condition in conditions.values() for name in condition.reads_budgets}
    # A name that leads nowhere is meant to be one of the others: these are not told as unused too.
    understood = read <= set(gathered.budgets) and all(
        placed.written is not None
        and all(rule.when is None or (name, index) in conditions for index, rule in enumerate(placed.written.rules))
        for name, placed in gathered.models.items()
    )
    if not understood:
        return
    for name, placed in gathered.budgets.items():
        budget = placed.written
        if budget is None or name in read or budget.mode != "watch" or budget.warn_at or budget.past:
            continue
        message = f'the budget "{name}" is only watched, and no condition looks at it'
        mend = f'use it in a `when`, as in budget["{name}"].used > 0.9, or write `mode: hard`'
        yield placed.finding("unused-budget", message, mend=mend, severity=Severity.WARNING)
