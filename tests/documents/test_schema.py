"""The schema for editors says what the reader of the files says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.documents.budgets import WrittenBudget
from app.documents.gather import gather
from app.documents.page import plain
from app.documents.policy import WrittenDefaults, WrittenModel, WrittenRule, WrittenTarget
from app.documents.rates import WrittenRates
from app.documents.scenario import WrittenScenario
from app.documents.schema import DIALECT, WrittenFile, policy_schema
from app.documents.source import read
from app.documents.words import Written
from tests.documents.good import GOOD, changed
from tests.documents.test_whole_language import WHOLE

POLICIES = Path(__file__).parents[2] / "policies"
SCHEMA = policy_schema()
OBJECTS: Mapping[str, Mapping[str, Any]] = {"File": SCHEMA, **SCHEMA["$defs"]}
HEADER = "# yaml-language-server: $schema="


def fits(value: object, schema: Mapping[str, Any]) -> bool:
    """Whether a value fits a schema, for the part of JSON Schema that is used here."""
    if "$ref" in schema:
        return fits(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    if any(word in schema and not check(value, schema) for word, check in CHECKS.items()):
        return False
    return "type" not in schema or (
        isinstance(value, TYPES[schema["type"]]) and (not isinstance(value, bool) or schema["type"] == "boolean")
    )


TYPES: Mapping[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": int | float | Decimal,
}


def _members_fit(value: Any, schema: Mapping[str, Any]) -> bool:
    if not isinstance(value, dict):
        return True
    for key, below in value.items():
        patterns = [each for pattern, each in schema.get("patternProperties", {}).items() if re.search(pattern, key)]
        kinds = [schema["properties"][key]] if key in schema.get("properties", {}) else patterns
        if not kinds or not all(fits(below, kind) for kind in kinds):
            return False
    return True


CHECKS: Mapping[str, Any] = {
    "oneOf": lambda value, schema: sum(fits(value, each) for each in schema["oneOf"]) == 1,
    "anyOf": lambda value, schema: any(fits(value, each) for each in schema["anyOf"]),
    "enum": lambda value, schema: value in schema["enum"],
    "const": lambda value, schema: value == schema["const"],
    "pattern": lambda value, schema: not isinstance(value, str) or re.search(schema["pattern"], value),
    "maxLength": lambda value, schema: not isinstance(value, str) or len(value) <= schema["maxLength"],
    "minimum": lambda value, schema: not isinstance(value, int | Decimal) or value >= schema["minimum"],
    "maximum": lambda value, schema: not isinstance(value, int | Decimal) or value <= schema["maximum"],
    "minItems": lambda value, schema: not isinstance(value, list) or len(value) >= schema["minItems"],
    "items": lambda value, schema: not isinstance(value, list) or all(fits(each, schema["items"]) for each in value),
    "required": lambda value, schema: not isinstance(value, dict) or set(schema["required"]) <= set(value),
    "minProperties": lambda value, schema: not isinstance(value, dict) or len(value) >= schema["minProperties"],
    "maxProperties": lambda value, schema: not isinstance(value, dict) or len(value) <= schema["maxProperties"],
    "additionalProperties": _members_fit,
}


def written(text: str) -> object:
    page, findings = read(file="a.yaml", text=text)
    assert page is not None
    assert findings == ()
    return plain(page.root)


def test_the_shipped_schema_is_the_one_that_the_command_prints() -> None:
    shipped = (POLICIES / "policy.schema.json").read_text()
    assert shipped == json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n", (
        "write it anew: breakeven policy schema > policies/policy.schema.json"
    )
    assert SCHEMA["$schema"] == DIALECT


@pytest.mark.parametrize("path", sorted(POLICIES.rglob("*.yaml")), ids=lambda path: str(path.relative_to(POLICIES)))
def test_every_shipped_file_fits_the_schema_that_its_first_line_names(path: Path) -> None:
    text = path.read_text()
    first = text.partition("\n")[0]
    if first.startswith(HEADER) or path.parent == POLICIES:
        assert (path.parent / first.removeprefix(HEADER)).resolve() == (POLICIES / "policy.schema.json").resolve()
    assert fits(written(text), SCHEMA)


def test_what_is_read_fits_and_what_is_refused_does_not() -> None:
    assert fits(written(GOOD), SCHEMA)
    assert fits(written(WHOLE), SCHEMA)
    for old, new in (
        ("engine: vllm", "engine: vlm"),
        ("rates:\n", "rate:\n"),
        ("  chat:\n", "  'the chat':\n"),
        ("use: [gpu-a]", "use: []"),
        ("attempts: 3", "attempts: 11"),
        ("attempts: 3", "attempts: true"),
        ("    model: small\n", ""),
        ("prefer: cheapest", "prefer: dearest"),
        ("prefer: cheapest", "prefer: {}"),
        ("prefer: cheapest", "prefer: {usd_per_second: 1, weighted: {gpu-a: 1}}"),
        ("prompt: 0.25,", "prompt: -1,"),
    ):
        assert not fits(written(changed(old, new)), SCHEMA), new


def test_nothing_but_what_is_described_may_be_written_anywhere() -> None:
    for name, kind in OBJECTS.items():
        assert kind["additionalProperties"] is False, name
        assert kind["description"], name
        assert [key for key, each in kind["properties"].items() if not each.get("description")] == [], name


def models_of_the_schema() -> Iterator[type[Written]]:
    """The models whose names the schema has."""
    return (each for each in _all_below(Written) if each.__name__.removeprefix("Written") in OBJECTS)


def _all_below(model: type[Written]) -> Iterator[type[Written]]:
    for each in model.__subclasses__():
        yield each
        yield from _all_below(each)


def test_every_key_of_every_model_is_in_the_schema_and_the_reverse() -> None:
    models = {each.__name__.removeprefix("Written"): each for each in models_of_the_schema()}
    assert set(models) == set(OBJECTS)
    for name, model in models.items():
        assert set(OBJECTS[name]["properties"]) == set(model.model_fields), name


def test_a_file_may_hold_what_gather_reads_and_nothing_else() -> None:
    page, _ = read(file="a.yaml", text="".join(f"{key}:\n" for key in WrittenFile.model_fields) + "other:\n")
    assert page is not None
    _, findings = gather([page])
    assert [finding.code for finding in findings] == ["timezone", "unknown-key"]


@pytest.mark.parametrize(
    "model", [WrittenTarget, WrittenModel, WrittenRule, WrittenDefaults, WrittenRates, WrittenBudget, WrittenScenario]
)
def test_examples_of_the_main_keys_can_be_written_as_they_are(model: type[Written]) -> None:
    kind = OBJECTS[model.__name__.removeprefix("Written")]
    without = [key for key, each in kind["properties"].items() if not each.get("examples")]
    assert without == []
    for key, each in kind["properties"].items():
        for example in each["examples"]:
            assert fits(example, each), key
