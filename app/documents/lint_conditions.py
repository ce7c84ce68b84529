"""Conditions that are always or never true, and rules that earlier rules leave nothing to.

Told only when proven, for every request and every state of the fleet: see `condition_claims`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.documents.condition_claims import Ways, domain_of, ways_of
from app.documents.condition_logic import TRUE, Effort, Formula, Some, denied, impossible, values_of
from app.documents.condition_terms import Binary, Field, Junction, Term
from app.documents.conditions import CelCondition
from app.documents.gather import Gathered, Placed
from app.documents.policy import WrittenModel, WrittenRule
from app.domain.findings import Finding, Severity

#: Claims that are looked at for one policy: a fraction of a second. Rules beyond are left alone.
_MOST_EFFORT = 100_000
_MOST_NAMED = 3
#: Of more rules that take it together, it is not found out which are enough.
_MOST_REDUCED = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class _Earlier:
    """A rule that is asked before: where it does not hold, and of which values that depends."""

    rule: WrittenRule
    line: int
    missed: Formula
    values: frozenset[str]


def lint_conditions(gathered: Gathered, conditions: Mapping[tuple[str, int], CelCondition]) -> Iterator[Finding]:
    """Warnings, at the `when` each. `conditions` has every `when` without a fault, by model and place of its rule."""
    effort = Effort(_MOST_EFFORT)
    of_models: dict[str, dict[int, CelCondition]] = {}
    for (name, index), condition in conditions.items():
        of_models.setdefault(name, {})[index] = condition
    for name, placed in gathered.models.items():
        if placed.written is not None:
            yield from _Model(placed, of_models.get(name, {}), effort).findings(placed.written)


class _Model:
    def __init__(self, placed: Placed[WrittenModel], conditions: Mapping[int, CelCondition], effort: Effort) -> None:
        self._placed = placed
        self._conditions = conditions
        self._effort = effort
        self._earlier: list[_Earlier] = []

    def findings(self, written: WrittenModel) -> Iterator[Finding]:
        """One for a rule at most; none after a rule that takes every request."""
        for index, rule in enumerate(written.rules):
            condition = self._conditions.get(index)
            if condition is None:
                if rule.when is None:
                    yield from self._left_over(index, rule, TRUE)
                    return
                continue
            ways = ways_of(condition.term, model=self._placed.name)
            if impossible((ways.true,), effort=self._effort):
                yield from self._constant(index, condition, is_true=False, is_last=False)
                continue
            missed = denied(ways.true)
            if impossible((missed,), effort=self._effort):
                yield from self._constant(index, condition, is_true=True, is_last=index + 1 == len(written.rules))
                return
            yield from self._left_over(index, rule, ways.true)
            line = self._placed.page.mark((*self._placed.path, "rules", index)).line
            self._earlier.append(_Earlier(rule=rule, line=line, missed=missed, values=frozenset(values_of(missed))))

    def _constant(self, index: int, condition: CelCondition, *, is_true: bool, is_last: bool) -> Iterator[Finding]:
        if not condition.places:
            return  # It looks at nothing, which its cautions say.
        term = self._culprit(condition.term, is_true=is_true)
        part = condition.source[term.begins : term.ends]
        at = self._placed.page.mark_within((*self._placed.path, "rules", index, "when"), offset=term.begins)
        whole = term is condition.term
        if is_true:
            message = "the condition is always true" + ("" if whole else f": `{part}` is")
            message += "" if is_last else "; the rules after it are never reached"
            mend = "correct it, or leave `when` out" + ("" if is_last else " and remove the rules after it")
        else:
            message = "the condition is never true" + ("" if whole else f": `{part}` is not")
            mend = "correct it, or remove the rule"
        mend = f"{self._values_of(term)}{mend}"
        yield self._placed.page.finding("condition-constant", message, at=at, mend=mend, severity=Severity.WARNING)

    def _culprit(self, term: Term, *, is_true: bool) -> Term:
        """The smallest part that makes it so: one side of an `or` that is always true, of an `and` that never is."""
        if isinstance(term, Junction) and term.operator == ("||" if is_true else "&&"):
            for part in term.parts:
                if impossible((_against(self._ways(part), is_true=is_true),), effort=self._effort):
                    return self._culprit(part, is_true=is_true)
        return term

    def _ways(self, term: Term) -> Ways:
        return ways_of(term, model=self._placed.name)

    def _values_of(self, term: Term) -> str:
        """What its field can be, where those are a few words."""
        if not isinstance(term, Binary):
            return ""
        for side in (term.left, term.right):
            domain = domain_of(side, model=self._placed.name) if isinstance(side, Field) else None
            if domain is not None and domain.only is not None:
                words = sorted(map(str, domain.only))
                return (
                    f"it is {' or '.join(words)} in these rules; "
                    if len(words) == 1
                    else f"it is one of {', '.join(words)}; "
                )
        return ""

    def _left_over(self, index: int, rule: WrittenRule, taken: Formula) -> Iterator[Finding]:
        """A finding when no request that the rule would take comes past the rules before it."""
        group = self._takers(taken)
        if not group:
            return
        said = " and ".join(f'"{one.rule.name}" (line {one.line})' for one in group[:_MOST_NAMED])
        if len(group) > _MOST_NAMED:
            said += f" and {len(group) - _MOST_NAMED} more rules before it"
        below: tuple[str | int, ...] = ("rules", index, "when")
        what, mend = "what it matches", "move it up, or remove it"
        if rule.when is None:
            below = ("rules", index)
            what, mend = "every request", f'remove it, and the `when` of "{group[-1].rule.name}"'
        message = f'"{rule.name}" is never reached: {what} is taken by {said}'
        yield self._placed.finding("unreachable", message, below=below, mend=mend, severity=Severity.WARNING)

    def _takers(self, taken: Formula) -> list[_Earlier]:
        """The rules before it that take it all: one, if one does, or a few that do together; none when some is left."""
        values = set(values_of(taken))
        related = [one for one in self._earlier if values & one.values]
        for group in (related, self._earlier) if len(related) < len(self._earlier) else (related,):
            if not group or not self._is_taken(taken, group):
                continue
            for one in group:
                if self._is_taken(taken, [one]):
                    return [one]
            return self._fewest(taken, group) if len(group) <= _MOST_REDUCED else group
        return []

    def _fewest(self, taken: Formula, group: list[_Earlier]) -> list[_Earlier]:
        for one in group:
            fewer = [other for other in group if other is not one]
            if self._is_taken(taken, fewer):
                group = fewer
        return group

    def _is_taken(self, taken: Formula, group: list[_Earlier]) -> bool:
        ways = taken.parts if isinstance(taken, Some) else (taken,)
        missed = [one.missed for one in group]
        return all(impossible((way, *missed), effort=self._effort) for way in ways)


def _against(ways: Ways, *, is_true: bool) -> Formula:
    """What would show that it is not always true, or that it sometimes is."""
    return denied(ways.true) if is_true else ways.true
