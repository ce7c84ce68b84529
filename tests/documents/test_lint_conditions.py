"""Conditions that are always or never true, and rules that nothing is left for, are told where they stand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.documents.compile import compile_policy
from app.documents.gather import gather
from app.documents.lint_conditions import lint_conditions
from app.documents.source import read
from app.domain.findings import Finding, Severity
from tests.documents.good import GOOD, findings_of
from tests.documents.test_condition_claims import CONDITIONS, Names, condition, some_names

_BEFORE, _, _REST = GOOD.partition("      - name: legal stays home\n")
_AFTER = _REST[_REST.index("    attempts:") :]


def policy(*conditions: str | None) -> str:
    """The good policy with rules "r1", "r2" … that have these conditions, each of the rules on four lines."""
    rules = "".join(
        f"      - name: r{number}\n        when: {when}\n        use: [gpu-a, hosted]\n        prefer: cheapest\n"
        if when is not None
        else f"      - name: r{number}\n        use: [gpu-a, hosted]\n"
        for number, when in enumerate(conditions, start=1)
    )
    return f"{_BEFORE}{rules}{_AFTER}"


def linted(*conditions: str | None) -> list[Finding]:
    return [one for one in findings_of(policy(*conditions)) if one.code in ("condition-constant", "unreachable")]


FIRST_LINE = _BEFORE.count("\n") + 1


def test_a_condition_that_is_never_true_is_told_at_the_part_that_is_not() -> None:
    (finding,) = linted("request.n > 1 && request.stream && request.endpoint == 'embeddings'", None)
    assert (finding.line, finding.column) == (
        FIRST_LINE + 1,
        len("        when: request.n > 1 && request.stream && ") + 1,
    )
    assert finding.severity is Severity.WARNING
    assert finding.code == "condition-constant"
    assert finding.message == "the condition is never true: `request.endpoint == 'embeddings'` is not"
    assert finding.mend == "it is one of chat, completions; correct it, or remove the rule"


def test_the_parts_of_a_contradiction_are_told_as_a_whole() -> None:
    (finding,) = linted("caller.team == 'a' && caller.team == 'b'", None)
    assert finding.column == len("        when: ") + 1
    assert finding.message == "the condition is never true"
    assert finding.mend == "correct it, or remove the rule"


def test_a_rule_that_takes_everything_is_told_and_what_comes_after_it_is_not() -> None:
    (finding,) = linted("request.n > 8 || (request.stream || !request.stream)", "request.n > 9", None)
    assert (
        "always true: `request.stream || !request.stream` is; the rules after it are never reached" in finding.message
    )
    assert finding.column == len("        when: request.n > 8 || (") + 1
    (last,) = linted("request.model == 'chat'")
    assert last.message == "the condition is always true"
    assert last.mend == "it is chat in these rules; correct it, or leave `when` out"


def test_a_signal_that_may_not_be_known_is_not_always_true() -> None:
    assert linted('fleet["gpu-a"].waiting >= 0', None) == []
    (finding,) = linted('fleet["gpu-a"].circuit == "opened"', None)
    assert finding.mend.startswith("it is one of closed, half_open, open; ")


def test_a_condition_that_looks_at_nothing_is_told_once() -> None:
    findings = [one for one in findings_of(policy("1 < 2", None)) if one.line == FIRST_LINE + 1]
    assert [one.code for one in findings] == ["condition"]
    assert linted("false", "request.n > 1", None) == []


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("caller.team == 'a'", "caller.team=='a'"),
        ("request.stream", "request.stream && request.n > 2"),
        ("request.n > 4", "request.n > 8"),
        ("request.n > 4", "request.n == 8 || request.n in [9, 10]"),
        ("caller.team in ['a', 'b']", "caller.team == 'b' && time.hour > 3"),
        ("caller.team != 'a'", "caller.team == 'b'"),
        ("(!request.stream) || request.n > 1", "request.n == 3"),
        ("fleet['gpu-a'].waiting > 3", 'fleet["gpu-a"].waiting > 5 && request.stream'),
        ("request.tags.exists(t, t == 'a')", "request.tags.exists(t, t == \"a\") && request.stream"),
    ],
)  # fmt: skip
def test_a_rule_whose_requests_an_earlier_rule_takes_is_never_reached(earlier: str, later: str) -> None:
    (finding,) = linted("request.has_audio", earlier, "request.has_images && request.n < 9", later, None)
    assert finding.message == f'"r4" is never reached: what it matches is taken by "r2" (line {FIRST_LINE + 4})'
    assert (finding.line, finding.column) == (FIRST_LINE + 13, len("        when: ") + 1)
    assert (finding.code, finding.severity) == ("unreachable", Severity.WARNING)
    assert finding.mend == "move it up, or remove it"


def test_rules_that_take_it_together_are_named_together_and_no_others() -> None:
    (finding,) = linted(
        "caller.team == 'a'",
        "time.hour < 10",
        "request.n > 2",
        "time.hour > 10",
        "time.hour != 10 && request.n < 9",
        None,
    )
    assert finding.message.startswith('"r5" is never reached: what it matches is taken by "r2"')
    assert finding.message.endswith(f'and "r4" (line {FIRST_LINE + 12})')
    many = [f"time.hour in [{hour * 4}, {hour * 4 + 1}, {hour * 4 + 2}, {hour * 4 + 3}]" for hour in range(6)]
    finding, _ = linted(*many, "request.stream", None)
    assert finding.message.endswith("and 3 more rules before it")
    more = [f"time.hour == {hour}" for hour in range(24)]
    finding, _ = linted(*more, "request.stream", None)
    assert finding.message.endswith("and 21 more rules before it")


def test_a_last_rule_that_nothing_is_left_for_is_told_with_the_mend() -> None:
    (finding,) = linted("request.stream", "(!request.stream)", None)
    assert finding.message.startswith('"r3" is never reached: every request is taken by "r1"')
    assert finding.mend == 'remove it, and the `when` of "r2"'
    assert finding.line == FIRST_LINE + 8
    assert linted("fleet['gpu-a'].waiting > 2", "true && !(fleet['gpu-a'].waiting > 2)", None) == [], (
        "it may not be known"
    )


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("request.n > 8", "request.n > 4"),
        ("request.stream && request.n > 2", "request.stream"),
        ("caller.team == 'a'", "caller.key == 'a'"),
        ("fleet['gpu-a'].waiting > 3", "fleet['gpu-b'].waiting > 3"),
        ("fleet['gpu-a'].waiting > 3", "fleet['gpu-a'].in_flight > 3"),
        ("budget['a'].used > 0.5", "fleet['a'].saturation > 0.5"),
        ("request.tags[0] == 'a'", "request.tags.exists(t, t == 'a')"),
    ],
)
def test_a_rule_that_is_left_something_is_not_told(earlier: str, later: str) -> None:
    assert linted(earlier, later, None) == []


def test_a_condition_at_fault_hides_nothing_of_the_others() -> None:
    findings = linted("request.n > 1", "request.foo > 1", "request.n > 2", None)
    assert [one.message.partition(" is never")[0] for one in findings] == ['"r3"']


def test_a_long_list_of_rules_is_read_to_the_end_of_the_effort_only() -> None:
    rules = [f"caller.team == 't{number}' && request.n > {number % 7}" for number in range(400)]
    (finding,) = linted(*rules, "caller.team == 't7' && request.n == 8", None)
    assert f'"r8" (line {FIRST_LINE + 28})' in finding.message


@settings(max_examples=60, deadline=None)
@given(st.lists(CONDITIONS, min_size=2, max_size=6), st.lists(some_names(), min_size=6, max_size=6))
def test_a_rule_called_unreachable_is_reached_by_no_request(texts: list[str], samples: list[Names]) -> None:
    rules = [text.replace('"', "\\x22") for text in texts]
    page, faults = read(file="a.yaml", text=policy(*(f'"{text}"' for text in rules), None).replace("\\x61", "\\\\x61"))
    assert page is not None, faults
    gathered, _ = gather([page])
    conditions = {}
    for index, text in enumerate(texts):
        try:
            conditions["chat", index] = condition(text)
        except AssertionError:
            return  # The random condition has a fault.
    told = {one.line: one for one in lint_conditions(gathered, conditions)}
    for names in samples:
        reached = next((at for at in range(len(texts)) if conditions["chat", at].holds(names)), len(texts))
        finding = told.get(FIRST_LINE + 4 * reached + (reached < len(texts)))
        assert finding is None or "always true" in finding.message, (finding, names)


def test_the_policy_goes_live_all_the_same() -> None:
    compiled = compile_policy({"policy.yaml": policy("request.n > 1", "request.n > 2", None)})
    assert [one.code for one in compiled.findings] == ["unreachable"]
    assert compiled.policy.routes["chat"].prepare is not None
