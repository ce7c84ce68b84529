"""What a schema cannot see in scenarios (`app.documents.lint_scenarios`)."""

from __future__ import annotations

import pytest

from app.documents.lint_scenarios import lint_scenarios
from app.domain.findings import Severity
from tests.documents.good import GOOD, findings_of, told
from tests.documents.test_scenario import one, place_of

UNKNOWN = [
    ("{model: chatt}", "{first: gpu-a}", "chatt", "unknown-model"),
    ("{model: chat, fleet: {gpu-b: {}}}", "{first: gpu-a}", "gpu-b", "unknown-target"),
    ("{model: chat, budget: {research: {used: 1}}}", "{first: gpu-a}", "research", "unknown-budget"),
    ("{model: chat}", "{first: gpu-b}", "gpu-b", "unknown-target"),
    ("{model: chat}", "{order: [gpu-a, hostd]}", "hostd", "unknown-target"),
    ("{model: chat}", "{never: [gpu-b]}", "gpu-b", "unknown-target"),
    ("{model: chat}", "{shadow: gpu-b}", "gpu-b", "unknown-target"),
    ("{model: chat}", "{filter: {gpu-b: room}}", "gpu-b", "unknown-target"),
    ("{model: chat}", "{rule: otherwis}", "otherwis", "unknown-rule"),
]


@pytest.mark.parametrize(("given_text", "expect", "at_fault", "code"), UNKNOWN)
def test_a_name_that_nobody_has_is_an_error_at_its_place(
    given_text: str, expect: str, at_fault: str, code: str
) -> None:
    files = one(given_text, expect)
    assert told(files) == [(place_of(at_fault, files), code)]
    (finding,) = findings_of(files)
    assert finding.severity is Severity.ERROR
    assert finding.mend


def test_a_date_of_another_weekday_is_a_contradiction() -> None:
    files = one("{model: chat, time: {date: 2026-11-23, weekday: 2}}")
    assert told(files) == [(place_of("2}}", files), "contradiction")]


def test_expecting_nothing_is_an_error() -> None:
    (finding,) = findings_of(one("{model: chat}", "{}"))
    assert (finding.code, finding.severity, finding.line) == ("tests-nothing", Severity.ERROR, 4)


VACUOUS = ["{spilled: false}", "{shadow: none}", "{spilled: false, shadow: none}"]


@pytest.mark.parametrize("expect", VACUOUS)
def test_expecting_what_every_decision_meets_is_a_warning(expect: str) -> None:
    (finding,) = findings_of(one("{model: chat}", expect))
    assert (finding.code, finding.severity, finding.line) == ("tests-nothing", Severity.WARNING, 4)


def test_a_target_of_another_model_can_never_be_asked_so_that_expecting_it_is_nothing() -> None:
    files = one("{model: chat}", "{never: [other]}")
    other = GOOD[GOOD.index("  hosted:\n") : GOOD.index("models:")].replace("hosted:\n", "other:\n", 1)
    files["other.yaml"] = (
        f"targets:\n{other}models: {{m: {{rules: [{{name: r, use: [other]}}]}}}}\nrates: {{targets: {{other: "
        "{usd_per_million_tokens: {prompt: 1, cached_prompt: 1, completion: 1}}}}\n"
    )
    assert told(files) == [("scenarios.yaml:4:5", "tests-nothing")]
    files["scenarios.yaml"] = files["scenarios.yaml"].replace("never: [other]", "never: [other, hosted]")
    assert told(files) == [("scenarios.yaml:2:5", "scenario")]


def test_the_only_rule_of_a_model_is_no_expectation_but_one_of_several_is() -> None:
    single = GOOD.replace("models:\n", "models:\n  one: {rules: [{name: r, use: [gpu-a]}]}\n")
    files = {**one("{model: one}", "{rule: r}"), "policy.yaml": single}
    assert told(files) == [("scenarios.yaml:4:5", "tests-nothing")]
    assert told(one("{model: chat}", "{rule: otherwise}")) == []
    assert told({**one("{model: one}", "{rule: r, first: gpu-a}"), "policy.yaml": single}) == []


def test_nothing_is_told_of_no_scenarios() -> None:
    assert list(lint_scenarios((), gathered=None, budgets=())) == []  # type: ignore[arg-type]
