"""Would anybody notice? The policy with one small mistake in it, many times over, and what its scenarios say.

Changed are compiled values, not files: conditions (`mutate_conditions`), the order of rules and of `use`, what is
preferred and by which weights, `spill`, `affinity`, `wait`, `shadow`, and the data classes of targets. Not changed is
what no decision depends on (attempts, timeouts, caps of shadows) and what describes a target rather than a wish
(capabilities, context, limits, prices).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain

from app.documents.budgets import WrittenBudget
from app.documents.compile import Compiled, compile_untested
from app.documents.conditions import CelCondition, compile_condition
from app.documents.equivalence import match_alike
from app.documents.gather import Placed, gather
from app.documents.mutate_budgets import changed_budgets
from app.documents.mutate_conditions import changed_conditions
from app.documents.mutate_rules import changed_rules
from app.documents.page import Mark
from app.documents.policy import WrittenModel
from app.documents.price_lists import NO_CATALOGUE
from app.documents.source import read
from app.domain.budget import Budget
from app.domain.routing.decide import decide
from app.domain.routing.names import names_for_conditions
from app.domain.routing.policy import Policy, Route, Rule
from app.domain.routing.scenario import Scenario, fleet_at_rest, run_scenario, world_of
from app.domain.target import Target
from app.ports.prices import Catalogue


class Fate(StrEnum):
    """What becomes of a mutant.

    caught: a scenario fails. refused: the policy would not be read. equivalent: proven to decide alike, so that nobody
    could notice. survived: nobody noticed.
    """

    CAUGHT = "caught"
    REFUSED = "refused"
    EQUIVALENT = "equivalent"
    SURVIVED = "survived"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """The policy with one change. `change` is a sentence; `policy` None: such a condition is refused at load."""

    file: str
    line: int
    column: int
    #: None: a change of a target, which every model may feel.
    model: str | None
    rule: str | None
    change: str
    policy: Policy | None
    #: The rules around the change, before and after; equal first matches there prove the mutant equivalent.
    before: tuple[Rule, ...] = ()
    after: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How many mutants there were by fate; equivalent ones do not count."""

    fates: Mapping[Fate, int]

    @property
    def counted(self) -> int:
        """Mutants that somebody could have noticed."""
        return sum(number for fate, number in self.fates.items() if fate is not Fate.EQUIVALENT)

    @property
    def percent(self) -> float:
        """Of those, the part that was noticed: 0 to 100. 100 when there is nothing to change."""
        survived = self.fates.get(Fate.SURVIVED, 0)
        return 100.0 if not self.counted else 100.0 * (self.counted - survived) / self.counted


def score_of(fates: Iterable[Fate]) -> Score:
    """The sum of it."""
    counts = dict.fromkeys(Fate, 0)
    for fate in fates:
        counts[fate] += 1
    return Score(fates=counts)


def mutants(files: Mapping[str, str], *, catalogue: Catalogue = NO_CATALOGUE) -> tuple[Mutant, ...]:
    """Every mutant of the policy that these files write, in its order. Raises PolicyInvalid as `compile_untested`."""
    compiled = compile_untested(files, catalogue=catalogue)
    pages = [page for page, _ in (read(file=name, text=text) for name, text in sorted(files.items())) if page]
    gathered, _ = gather(pages)
    by_route = (_of_route(compiled.policy, gathered.models[name]) for name in compiled.policy.routes)
    by_target = (
        _of_target(compiled.policy, target, file=gathered.targets[name].page.file, at=gathered.targets[name].name_mark)
        for name, target in compiled.policy.targets.items()
    )
    by_budget = (
        _of_budget(compiled.policy, budget, placed=gathered.budgets[budget.name])
        for budget in compiled.policy.degrading
    )
    return tuple(chain.from_iterable(chain(by_route, by_target, by_budget)))


def judged(mutants: Iterable[Mutant], compiled: Compiled) -> Iterator[tuple[Mutant, Fate]]:
    """The fate of each, in their order. The scenarios of `compiled` all pass as it is."""
    court = _Court(compiled)
    for mutant in mutants:
        yield mutant, court.fate_of(mutant)


class _Court:
    """Asks only the scenarios that a change can reach: a rule is not asked where an earlier one matched, and matters
    only where its condition holds."""

    def __init__(self, compiled: Compiled) -> None:
        self._policy = compiled.policy
        self._at_rest = fleet_at_rest(compiled.policy)
        self._scenarios = compiled.scenarios
        self._decided_by: dict[str, str | None] = {}
        self._names: dict[str, Mapping[str, object]] = {}
        for scenario in compiled.scenarios:
            world = world_of(scenario, compiled.policy, at_rest=self._at_rest)
            route = compiled.policy.routes[scenario.facts.model]
            self._decided_by[scenario.name] = decide(scenario.facts, world).rule
            self._names[scenario.name] = names_for_conditions(scenario.facts, route=route, snapshot=world)

    def fate_of(self, mutant: Mutant) -> Fate:
        if mutant.policy is None:
            return Fate.REFUSED
        for scenario in self._reached(mutant):
            if not run_scenario(scenario, mutant.policy, at_rest=self._at_rest).passed:
                return Fate.CAUGHT
        return Fate.EQUIVALENT if self._is_equivalent(mutant) else Fate.SURVIVED

    def _is_equivalent(self, mutant: Mutant) -> bool:
        """By the rules around the change alone, or together with all others of the model."""
        if not mutant.before or mutant.policy is None or mutant.model is None:
            return False
        if match_alike(mutant.before, mutant.after):
            return True
        before, after = (policy.routes[mutant.model].rules for policy in (self._policy, mutant.policy))
        return match_alike(before, after)

    def _reached(self, mutant: Mutant) -> Iterator[Scenario]:
        for scenario in self._scenarios:
            if mutant.model in (None, scenario.facts.model) and self._may_differ(scenario, mutant):
                yield scenario

    def _may_differ(self, scenario: Scenario, mutant: Mutant) -> bool:
        decided_by = self._decided_by[scenario.name]
        if mutant.rule in (None, decided_by):
            return True
        # Decided by another rule: it differs only if the changed one takes the request over from that.
        return any(rule.name == mutant.rule and self._holds(rule, scenario) for rule in mutant.after) or any(
            rule.name == decided_by for rule in mutant.after
        )

    def _holds(self, rule: Rule, scenario: Scenario) -> bool:
        return rule.when is None or rule.when.holds(self._names[scenario.name])


# ── routes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_route(policy: Policy, placed: Placed[WrittenModel]) -> Iterator[Mutant]:
    route = policy.routes[placed.name]
    for index, rule in enumerate(route.rules):
        at = placed.page.mark((*placed.path, "rules", index))
        yield from _of_condition(policy, route, index, placed)
        for change, other in changed_rules(rule):
            yield _mutant(placed, at, policy, route, _changed(route.rules, index, other), rule, change)
        if len(route.rules) > 1:
            rules = (*route.rules[:index], *route.rules[index + 1 :])
            yield _mutant(placed, at, policy, route, rules, rule, "it is dropped")
        if index + 1 < len(route.rules):
            following = route.rules[index + 1]
            swapped = (*route.rules[:index], following, rule, *route.rules[index + 2 :])
            mutant = _mutant(placed, at, policy, route, swapped, rule, f'it changes places with "{following.name}"')
            yield replace(mutant, before=(rule, following), after=(following, rule))


def _of_condition(policy: Policy, route: Route, index: int, placed: Placed[WrittenModel]) -> Iterator[Mutant]:
    rule = route.rules[index]
    if not isinstance(rule.when, CelCondition):
        return
    for changed in changed_conditions(rule.when):
        at = placed.page.mark_within((*placed.path, "rules", index, "when"), offset=changed.offset)
        condition = compile_condition(changed.text)
        if not isinstance(condition, CelCondition):
            yield replace(_mutant(placed, at, policy, route, (), rule, changed.change), policy=None)
            continue
        other = replace(rule, when=condition)
        rules = _changed(route.rules, index, other)
        mutant = _mutant(placed, at, policy, route, rules, rule, changed.change)
        yield replace(mutant, before=(rule,), after=(other,))


def _changed(rules: Sequence[Rule], index: int, other: Rule) -> tuple[Rule, ...]:
    return (*rules[:index], other, *rules[index + 1 :])


def _mutant(
    placed: Placed[WrittenModel],
    at: Mark,
    policy: Policy,
    route: Route,
    rules: tuple[Rule, ...],
    rule: Rule,
    change: str,
) -> Mutant:
    return Mutant(
        file=placed.page.file,
        line=at.line,
        column=at.column,
        model=route.model,
        rule=rule.name,
        change=f'rule "{rule.name}": {change}',
        policy=replace(policy, routes={**policy.routes, route.model: replace(route, rules=rules)}),
    )


# ── targets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_target(policy: Policy, target: Target, *, file: str, at: Mark) -> Iterator[Mutant]:
    for change, classes in _data_classes(target):
        yield Mutant(
            file=file,
            line=at.line,
            column=at.column,
            model=None,
            rule=None,
            change=f'target "{target.name}": {change}',
            policy=replace(policy, targets={**policy.targets, target.name: replace(target, data_classes=classes)}),
        )


def _of_budget(policy: Policy, budget: Budget, *, placed: Placed[WrittenBudget]) -> Iterator[Mutant]:
    at = placed.name_mark
    for change, other in changed_budgets(budget):
        budgets = {**policy.budgets, budget.name: other}
        yield Mutant(
            file=placed.page.file,
            line=at.line,
            column=at.column,
            model=None,
            rule=None,
            change=f'budget "{budget.name}": {change}',
            policy=replace(policy, budgets=budgets, degrading=tuple(each for each in budgets.values() if each.past)),
        )


def _data_classes(target: Target) -> Iterator[tuple[str, frozenset[str] | None]]:
    if target.data_classes is None:
        return
    yield "`data_classes` is removed, so that everything may go there", None
    for word in sorted(target.data_classes):
        yield f"`data_classes` is without {word}", target.data_classes - {word}
