"""What a schema cannot see in scenarios: names that nobody has, contradictions, and tests that test nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from app.documents.gather import Gathered, Placed
from app.documents.nearest import mend_for
from app.documents.policy import WrittenModel, WrittenRule
from app.documents.scenario import WrittenExpect, WrittenScenario, day_of
from app.domain.findings import Finding, Severity
from app.domain.routing.scenario import NO_SHADOW


def lint_scenarios(
    scenarios: Sequence[Placed[WrittenScenario]], gathered: Gathered, *, budgets: Collection[str]
) -> Iterator[Finding]:
    """Faults of scenarios, by what else is written. Only asked when every file could be read."""
    for placed in scenarios:
        if placed.written is None:
            continue
        faults = [
            *_times(placed, placed.written),
            *_unknown_names(placed, placed.written, gathered, budgets),
        ]
        model = gathered.models.get(placed.written.given.model)
        if model is not None and model.written is not None:
            faults += _unknown_rule(placed, placed.written.expect, model.written)
            faults += () if faults else _tests_nothing(placed, placed.written.expect, model.written)
        yield from faults


def _times(placed: Placed[WrittenScenario], scenario: WrittenScenario) -> Iterator[Finding]:
    time = scenario.given.time
    if day_of(time) is None:
        message = f"{time.date} is no day of weekday {time.weekday}"
        mend = "1 is Monday, 7 Sunday; leave one of the two out"
        yield placed.finding("contradiction", message, below=("given", "time", "weekday"), mend=mend)


def _unknown_names(
    placed: Placed[WrittenScenario], scenario: WrittenScenario, gathered: Gathered, budgets: Collection[str]
) -> Iterator[Finding]:
    given = scenario.given
    if given.model not in gathered.models:
        message = f'there is no model "{given.model}"'
        mend = mend_for(given.model, gathered.models, what="models")
        yield placed.finding("unknown-model", message, below=("given", "model"), mend=mend)
    for name in given.budget:
        if name not in budgets:
            mend = mend_for(name, budgets, what="budgets")
            message = f'there is no budget "{name}"'
            yield placed.finding("unknown-budget", message, below=("given", "budget", name), at_key=True, mend=mend)
    for below, name, at_key in _targets(scenario):
        if name not in gathered.targets:
            mend = mend_for(name, gathered.targets, what="targets")
            yield placed.finding(
                "unknown-target", f'there is no target "{name}"', below=below, at_key=at_key, mend=mend
            )


def _targets(scenario: WrittenScenario) -> Iterator[tuple[tuple[str | int, ...], str, bool]]:
    """Every target that the scenario names: where, its name, and whether that place is a key."""
    expect = scenario.expect
    yield from ((("given", "fleet", name), name, True) for name in scenario.given.fleet)
    yield from ((("expect", "filter", name), name, True) for name in expect.filter or {})
    yield from ((("expect", "order", place), name, False) for place, name in enumerate(expect.order or ()))
    yield from ((("expect", "never", place), name, False) for place, name in enumerate(expect.never or ()))
    if expect.first is not None:
        yield ("expect", "first"), expect.first, False
    if expect.shadow not in (None, NO_SHADOW):
        yield ("expect", "shadow"), str(expect.shadow), False


def _unknown_rule(placed: Placed[WrittenScenario], expect: WrittenExpect, model: WrittenModel) -> Iterator[Finding]:
    names = [rule.name for rule in model.rules]
    if expect.rule is not None and expect.rule not in names:
        message = f'the model has no rule "{expect.rule}"'
        mend = mend_for(expect.rule, names, what="rules")
        yield placed.finding("unknown-rule", message, below=("expect", "rule"), mend=mend)


def _tests_nothing(placed: Placed[WrittenScenario], expect: WrittenExpect, model: WrittenModel) -> Iterator[Finding]:
    asked = expect.model_dump(exclude_none=True)
    if not asked:
        message = "the scenario expects nothing, so it tests nothing"
        mend = "write what must come out, such as `first: TARGET`, `rule: NAME` or `refused: no_target`"
        yield placed.finding("tests-nothing", message, below=("expect",), at_key=True, mend=mend)
        return
    if all(_always_true(what, expect, model.rules) for what in asked):
        message = "whatever is decided, the scenario passes: it tests nothing"
        mend = "expect something that the rules could get wrong"
        severity = Severity.WARNING
        yield placed.finding("tests-nothing", message, below=("expect",), at_key=True, mend=mend, severity=severity)


def _always_true(what: str, expect: WrittenExpect, rules: Sequence[WrittenRule]) -> bool:
    """True when no request and no world could bring anything else about."""
    match what:
        case "rule":
            return rules[0].when is None and rules[0].name == expect.rule
        case "never":
            asked = {name for rule in rules for name in _asked(rule)}
            return asked.isdisjoint(expect.never or ())
        case "spilled":
            return expect.spilled is False and not any(_part(rule, "spill") for rule in rules)
        case "shadow":
            return expect.shadow == NO_SHADOW and not any(_part(rule, "shadow") for rule in rules)
    return False


def _asked(rule: WrittenRule) -> Iterator[str]:
    yield from rule.use
    shadow = _part(rule, "shadow")
    if shadow is not None:
        yield str(getattr(shadow, "target", ""))


def _part(rule: WrittenRule, key: str) -> object | None:
    part: object | None = getattr(rule, key, None)
    return part
