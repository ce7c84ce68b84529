"""Budgets changed in one place: their steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from app.domain.budget import Budget, PastStep
from app.domain.figures import in_digits

#: How far the beginning of a step is moved, in millionths of the budget.
MOVED_PPM: Final = 50_000
_WHOLE_PPM: Final = 1_000_000


def changed_budgets(budget: Budget) -> Iterator[tuple[str, Budget]]:
    """Each step dropped, begun earlier, begun later where it is not at the end, and changed in what it does."""
    for index, step in enumerate(budget.past):
        before, after = budget.past[:index], budget.past[index + 1 :]
        name = f"its step {in_digits(step.from_ppm / _WHOLE_PPM, significant=6)}"
        yield f"{name} is dropped", replace(budget, past=(*before, *after))
        for change, other in _changed(step):
            past = tuple(sorted((*before, other, *after), key=lambda each: each.from_ppm))
            yield f"{name} {change}", replace(budget, past=past)


def _changed(step: PastStep) -> Iterator[tuple[str, PastStep]]:
    for moved in (-MOVED_PPM, MOVED_PPM):
        begins = step.from_ppm + moved
        if 0 < begins <= _WHOLE_PPM:
            yield f"begins at {in_digits(begins / _WHOLE_PPM, significant=6)}", replace(step, from_ppm=begins)
    for target in step.only if len(step.only) > 1 else ():
        yield f"leaves out {target}", replace(step, only=tuple(each for each in step.only if each != target))
    if step.only and step.prefer_cheapest:
        yield "lets every target serve", replace(step, only=())
        yield "keeps the order of the rule", replace(step, prefer_cheapest=False)
