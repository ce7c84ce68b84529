"""What a name and a number may be."""

# ruff: noqa: E501 - tables read by their columns

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from app.documents.policy import Prefer, WrittenPreference
from app.documents.words import (
    DataClass,
    Line,
    MarginalUsdPerHour,
    Milliseconds,
    ModelName,
    Seconds,
    Share,
    TargetName,
    Usd,
    UsdPerHour,
    UsdPerMillion,
    UsdPerSecond,
    Waiting,
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
        (Prefer, ["listed", "cheapest", "fastest", {"weighted": {"a": 1}}, {"usd_per_second": Decimal("0.002")}], ["weighted", "balanced", {"weighted": {"a": "1"}}, {"usd_per_second": 0}, {"usd": 1}, 1]),
        (DataClass, ["public", "PII:2"], ["", "a b", "-a", "a" * 65]),
        (MarginalUsdPerHour, [0, Decimal("0.4")], [-1, "0"]),
        (UsdPerSecond, [Decimal("0.000000001"), 2], [0, Decimal("1e-10"), 1_001]),
        (Usd, [Decimal("0.5"), 500], [0, -1, True]),
        (Share, [1, Decimal("0.000001")], [0, Decimal("1.1"), Decimal("0.0000001")]),
        (Milliseconds, [1, Decimal("1500.5")], [0, Decimal("0.5"), "1500"]),
        (Waiting, [0, 16], [-1, Decimal("0.5")]),
    ],
)  # fmt: skip
def test_a_word_is_accepted_as_written_or_refused(kind: Any, good: list[object], bad: list[object]) -> None:
    assert [value for value in good if not accepts(kind, value)] == []
    assert [value for value in bad if accepts(kind, value)] == []


def test_weights_are_read_from_the_mapping_form() -> None:
    assert TypeAdapter(Prefer).validate_python({"weighted": {"a": 3}}) == WrittenPreference(weighted={"a": 3})


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
