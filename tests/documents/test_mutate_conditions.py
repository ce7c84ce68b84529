"""Small mistakes in conditions (`app.documents.mutate_conditions`)."""

from __future__ import annotations

import pytest

from app.documents.conditions import CelCondition, compile_condition
from app.documents.mutate_conditions import changed_conditions


def changed(text: str) -> list[str]:
    condition = compile_condition(text)
    assert isinstance(condition, CelCondition), condition
    return [one.text for one in changed_conditions(condition)]


CHANGES = [
    ("request.n > 1", ["request.n >= 1", "request.n <= 1", "request.n > 2", "request.n > 0", "!(request.n > 1\n)"]),
    (
        'caller.team == "legal"',
        ['caller.team != "legal"', 'caller.team == "legal~"', '!(caller.team == "legal"\n)'],
    ),
    ("request.stream", ["!(request.stream)", "!(request.stream\n)"]),
    (
        "!request.stream || request.has_tools",
        [
            "!request.stream && request.has_tools",
            "!!(request.stream) || request.has_tools",
            "!request.stream || !(request.has_tools)",
            "!(!request.stream || request.has_tools\n)",
        ],
    ),
    (
        "request.deadline_s >= 1.5",
        [
            "request.deadline_s > 1.5",
            "request.deadline_s < 1.5",
            "request.deadline_s >= 1.6",
            "request.deadline_s >= 1.4",
            "request.deadline_s >= 3.0",
            "!(request.deadline_s >= 1.5\n)",
        ],
    ),
    (
        'caller.team in ["a"]',
        ['caller.team in ["a~"]', '!(caller.team in ["a"])', '!(caller.team in ["a"]\n)'],
    ),
    ("request.stream == true", ["request.stream != true", "request.stream == false", "!(request.stream == true\n)"]),
    (
        'request.data_class.startsWith(r"x")',
        [
            'request.data_class.startsWith(r"x~")',
            '!(request.data_class.startsWith(r"x"))',
            '!(request.data_class.startsWith(r"x")\n)',
        ],
    ),
    (
        "request.n == 0x10 // sixteen",
        [
            "request.n != 0x10 // sixteen",
            "request.n == 17 // sixteen",
            "request.n == 15 // sixteen",
            "request.n == 32 // sixteen",
            "!(request.n == 0x10 // sixteen\n)",
        ],
    ),
]


@pytest.mark.parametrize(("text", "expected"), CHANGES, ids=[text for text, _ in CHANGES])
def test_every_single_change_is_made_once(text: str, expected: list[str]) -> None:
    assert changed(text) == expected


@pytest.mark.parametrize("text", [text for text, _ in CHANGES])
def test_a_change_is_a_condition_again_and_says_where_it_is(text: str) -> None:
    condition = compile_condition(text)
    assert isinstance(condition, CelCondition)
    for one in changed_conditions(condition):
        assert isinstance(compile_condition(one.text), CelCondition), one.text
        assert 0 <= one.offset < len(text)
        assert one.change


def test_names_of_targets_and_budgets_stay_as_they_are() -> None:
    assert not any("gpu-a~" in text for text in changed('fleet["gpu-a"].circuit == "open"'))
    assert not any("team~" in text for text in changed('budget["team"].used > 0.5'))


def test_a_text_in_three_quotes_is_changed_within_them() -> None:
    assert 'caller.team == """a~"""' in changed('caller.team == """a"""')
