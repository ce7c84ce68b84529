"""What a name and a number may be."""

# ruff: noqa: E501 - tables read by their columns

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from app.documents.policy import Prefer, WrittenWeights
from app.documents.words import (
    Line,
    ModelName,
    Seconds,
    TargetName,
    UsdPerHour,
    UsdPerMillion,
    Weight,
    kind_of,
)


def accepts(kind: Any, value: object) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (TargetName, ["a", "gpu-a", "0.x_y-z", "a" * 63], ["", "A", "-a", ".a", "a b", "a/b", "a\n", "a" * 64, "é", 7, None]),
        (ModelName, ["gpt-5-mini", "meta-llama/Llama-3:8b", "4o"], ["", "/a", "a b", "é", "a" * 129, "a\n", 4]),
        (Line, ["a", "home while it can, hosted otherwise", "größer – als"], ["", " a", "a ", "a\nb", "a\x7fb", "x" * 121]),
        (UsdPerMillion, [0, Decimal("0.025"), 1_000_000], [-1, Decimal("1e-13"), 1_000_001, "1", True, None, 0.5, [1]]),
        (UsdPerHour, [Decimal("0.000001"), 100_000], [0, Decimal("1e-7"), 100_001, "8"]),
        (Seconds, [Decimal("0.001"), 2, 86_400], [0, -1, Decimal("0.0001"), 86_401, False]),
        (Weight, [0, 1, 1_000_000], [-1, Decimal("0.5"), True, "1", 1_000_001]),
        (Prefer, ["listed", "cheapest", {"weighted": {"a": 1}}], ["weighted", "fastest", {}, {"weighted": {"a": "1"}}, 1]),
    ],
)  # fmt: skip
def test_a_word_is_accepted_as_written_or_refused(kind: Any, good: list[object], bad: list[object]) -> None:
    assert [value for value in good if not accepts(kind, value)] == []
    assert [value for value in bad if accepts(kind, value)] == []


def test_weights_are_read_from_the_mapping_form() -> None:
    assert TypeAdapter(Prefer).validate_python({"weighted": {"a": 3}}) == WrittenWeights(weighted={"a": 3})


def test_kinds_are_told_as_people_say_them() -> None:
    values: list[object] = [None, True, 7, Decimal("0.5"), "x", [], {}]
    told = [kind_of(value) for value in values]
    assert told == [
        "nothing",
        "true or false",
        "a whole number",
        "a number with decimals",
        "text",
        "a list",
        "a mapping",
    ]
