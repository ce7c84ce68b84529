"""What conditions look at exists, and budgets are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from app.documents.conditions import CelCondition
from app.documents.gather import Gathered
from app.documents.nearest import mend_for
from app.domain.findings import Finding


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
