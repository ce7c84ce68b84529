"""What conditions look at exists, and budgets are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from app.documents.budgets import WrittenBudget
from app.documents.conditions import CelCondition
from app.documents.gather import Gathered, Placed
from app.documents.nearest import mend_for
from app.domain.findings import Finding, Severity


def lint_reads(gathered: Gathered, conditions: Mapping[tuple[str, int], CelCondition]) -> Iterator[Finding]:
    """Targets and budgets that a condition names and no file has, at the name. Only asked when every file could be
    read."""
    kinds = {"fleet": "target", "budget": "budget"}
    names = {"target": sorted(gathered.targets), "budget": sorted(gathered.budgets)}
    for (model, index), condition in conditions.items():
        placed = gathered.models[model]
        path = (*placed.path, "rules", index, "when")
        for read in condition.places:
            kind = kinds.get(read.room, "")
            if kind and read.of not in names[kind]:
                message = f'the condition looks at the {kind} "{read.of}", which no file has'
                mend = mend_for(read.of, names[kind], what=f"{kind}s")
                at = placed.page.mark_within(path, offset=read.begins)
                yield placed.page.finding(f"unknown-{kind}", message, at=at, mend=mend)


def lint_budgets(gathered: Gathered, conditions: Mapping[tuple[str, int], CelCondition]) -> Iterator[Finding]:
    """Budgets of unknown models, budgets that count the same, budgets that nothing depends on. Only asked when every
    file could be read."""
    read = {name for condition in conditions.values() for name in condition.reads_budgets}
    first: dict[tuple[object, ...], str] = {}
    # A name that leads nowhere is meant to be one of the others: these are not told as unused too.
    understood = read <= set(gathered.budgets) and all(
        placed.written is not None
        and all(rule.when is None or (name, index) in conditions for index, rule in enumerate(placed.written.rules))
        for name, placed in gathered.models.items()
    )
    for name, placed in gathered.budgets.items():
        if placed.written is None:
            continue
        yield from _unknown_model(placed, placed.written, gathered)
        same = (placed.written.of, placed.written.every)
        if same in first:
            message = f'"{name}" counts the same money in the same periods as "{first[same]}"'
            yield placed.finding("duplicate-budget", message, mend="remove one of them", severity=Severity.WARNING)
        first.setdefault(same, name)
        if understood and name not in read:
            message = f'no condition looks at the budget "{name}", and budgets are watched, not enforced, yet'
            mend = f'use it in a `when`, as in budget["{name}"].used > 0.9'
            yield placed.finding("unused-budget", message, mend=mend, severity=Severity.WARNING)


def _unknown_model(placed: Placed[WrittenBudget], budget: WrittenBudget, gathered: Gathered) -> Iterator[Finding]:
    model = budget.of.model
    if model is not None and model not in gathered.models:
        message = f'the budget "{placed.name}" counts the model "{model}", which no file has'
        mend = mend_for(model, gathered.models, what="models")
        yield placed.finding("unknown-model", message, below=("of", "model"), mend=mend)
