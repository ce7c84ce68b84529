"""app.worker.schema_guard: what does not get to the engine."""

from __future__ import annotations

from typing import Any

import pytest

from app.worker.schema_guard import SchemaRefused, check_schema


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


REFUSED: list[tuple[Any, str, str]] = [
    ([], "", "a JSON object"),
    (True, "", "a JSON object"),
    ({"type": "nonsense"}, "type", "JSON types"),
    ({"type": []}, "type", "JSON types"),
    ({"type": ["string", "string"]}, "type", "JSON types"),
    ({"properties": {}}, "", "is there no `type`"),
    ({"type": "string", "patern": "x"}, "", "`patern` is not supported"),
    ({"type": "integer", "maxLength": 3}, "", "`maxLength` is not supported for `integer`"),
    ({"type": "object", "properties": {"a": {"type": "string", "maxLength": -1}}}, "properties.a.maxLength", "whole"),
    ({"type": "object", "properties": {"a": False}}, "properties.a", "object or true"),
    ({"type": "object", "properties": {'a"b': True}}, "properties", "quote"),
    ({"type": "object", "required": ["a"]}, "required", "names of `properties`"),
    ({"type": "object", "properties": []}, "properties", "an object"),
    ({"type": "object", "patternProperties": {}}, "", "`patternProperties`"),
    ({"oneOf": [{"type": "null"}]}, "", "`oneOf`"),
    ({"not": {}}, "", "`not`"),
    ({"anyOf": []}, "anyOf", "list of 1 to 32"),
    ({"anyOf": [{"type": "null"}], "type": "null"}, "", "does not go together"),
    ({"allOf": [{"type": "null"}, {"type": "null"}]}, "allOf", "list of 1 to 1"),
    ({"enum": []}, "enum", "something in it"),
    ({"enum": [[1]]}, "enum", "only strings"),
    ({"$ref": "#/$defs/none"}, "$ref", "own definitions"),
    ({"$ref": "https://example.org/schema"}, "$ref", "own definitions"),
    ({"$ref": "#"}, "$ref", "own definitions"),
    ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "$defs.a.$ref", "refers to itself"),
    (
        {
            "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}},
            "$ref": "#/$defs/a",
        },
        "$defs.a.anyOf[0].$ref",
        "refers to itself",
    ),
    ({"$defs": []}, "$defs", "an object"),
    ({"type": "array", "minItems": 1}, "", "what its `items` are"),
    ({"type": "array", "items": True, "minItems": 3, "maxItems": 2}, "", "`minItems` is more"),
    ({"type": "array", "items": True, "maxItems": 10**9}, "maxItems", "from 0 to 256"),
    ({"type": "string", "maxLength": 10**9}, "maxLength", "from 0 to 256"),
    ({"type": "string", "minLength": True}, "minLength", "whole number"),
    ({"type": "integer", "minimum": 5, "maximum": 4}, "", "no number"),
    ({"type": "integer", "exclusiveMinimum": 4, "exclusiveMaximum": 5}, "", "no number"),
    ({"type": "number", "minimum": 0.5}, "minimum", "whole number"),
    ({"type": "string", "format": "color"}, "format", "must be one of"),
    ({"type": "string", "format": "date", "pattern": "a"}, "", "not supported together"),
    ({"type": "string", "pattern": "a", "maxLength": 3}, "", "not supported together"),
    ({"type": "string", "pattern": "("}, "pattern", "is no pattern"),
    ({"type": "string", "pattern": 3}, "pattern", "a pattern of at most"),
    ({"type": "string", "pattern": "x" * 300}, "pattern", "a pattern of at most"),
    ({"type": "string", "pattern": "a{300}"}, "pattern", "repeats more than"),
    ({"type": "string", "pattern": "([a-z]{1,64}){1,64}"}, "pattern", "repeats more than"),
    *(
        ({"type": "string", "pattern": pattern}, "pattern", "only plain characters")
        for pattern in ("(?=a)", r"(a)\1", r"\bword", ".*", "[^a]", r"\s", '"', r"\\", "a+?", "a^b", "a$b", "()", "é")
    ),
    (
        {"type": "object", "properties": {f"a{n}": {"type": "string", "maxLength": 256} for n in range(3)}},
        "properties.a2",
        "add up",
    ),
    (nested(17), ".".join(["items"] * 17), "nested more than"),
    ({"type": "object", "properties": {f"a{n}": True for n in range(600)}}, "properties.a511", "more than 512 parts"),
]


@pytest.mark.parametrize(("schema", "place", "message"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_the_engine_may_not_compile_is_refused_with_its_place(schema: Any, place: str, message: str) -> None:
    with pytest.raises(SchemaRefused) as refused:
        check_schema(schema)
    assert message in str(refused.value)
    assert refused.value.place == place


def test_a_recursive_definition_with_an_object_in_between_passes() -> None:
    node = {"type": "object", "properties": {"next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}}}
    check_schema({"$defs": {"node": node}, "$ref": "#/$defs/node"})


def test_notes_in_a_schema_are_ignored() -> None:
    check_schema({"title": "t", "description": "d", "default": [1], "examples": [{}], "$comment": "c", "type": "null"})
