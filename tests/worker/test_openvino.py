"""app.worker.openvino: the engine's tokens and grammars."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.worker.messages import Sampling
from app.worker.schema_guard import check_schema
from tests.worker.engine import Inside

HARD = [
    "héllo wörld 你好 🎉🏳️‍🌈",
    "naïve\n\n  code: x=1\t\tif(a)",
    "12345 Ωμέγα",
    " leading and trailing ",
    "a\u0301 combining",
    "\u200b\ufeff",
]

#: One of each thing that a schema may say; each must compile, and be obeyed.
SCHEMAS: list[dict[str, Any]] = [
    {"type": "object"},
    {"type": "object", "properties": {"é x.y": {"type": "string", "maxLength": 4}}, "required": ["é x.y"]},
    {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "null"}},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
    {"type": "string", "minLength": 2, "maxLength": 6},
    {"type": "string", "format": "date"},
    {"type": "string", "pattern": r"^(ab|[c-e]{2,3}-\d)+$"},
    {"type": "integer", "minimum": 10, "exclusiveMaximum": 13},
    {"type": "number", "minimum": -1, "maximum": 1},
    {"type": ["integer", "null"]},
    {"enum": ['a "quoted" \\ word', "né", 1, 2.5, None, True]},
    {"const": "only"},
    {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    {
        "$defs": {
            "tree": {"type": "object", "properties": {"next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]}}}
        },
        "$ref": "#/$defs/tree",
    },
    {
        "type": "object",
        "properties": {"x": {"allOf": [{"$ref": "#/definitions/y"}]}},
        "definitions": {"y": {"type": "null"}},
    },
]


@pytest.mark.parametrize("text", HARD)
def test_text_survives_the_way_to_tokens_and_back(inside: Inside, text: str) -> None:
    tokens = inside.encode(text)
    assert inside.pipeline.decode(tokens) == text
    assert b"".join(inside.pipeline.token_bytes(token, skip_special=True) for token in tokens).decode() == text


def test_special_tokens_have_no_text_unless_it_is_asked_for(inside: Inside) -> None:
    (end,) = inside.encode("<|im_end|>")
    assert inside.pipeline.token_bytes(end, skip_special=True) == b""
    assert inside.pipeline.token_bytes(end, skip_special=False) == b"<|im_end|>"
    assert inside.pipeline.decode((end,)) == "<|im_end|>"


def test_texts_are_cut_where_the_engine_says_they_are(inside: Inside) -> None:
    assert inside.pipeline.text_tokens_most == 8192
    assert len(inside.encode("word " * 20_000)) == 8192
    assert inside.encode("") == ()


def test_only_tokens_of_the_vocabulary_are_known(inside: Inside) -> None:
    last = inside.pipeline.vocabulary - 1
    assert inside.pipeline.knows((0, last))
    assert not inside.pipeline.knows((last + 1,))
    assert not inside.pipeline.knows((-1,))


def test_the_engine_tells_the_shape_of_its_cache(inside: Inside) -> None:
    assert inside.ready.block_tokens == 32
    assert inside.ready.cache_blocks == 64
    assert "<|im_start|>" in inside.ready.chat_template
    assert inside.ready.engine_version.startswith("2026.")


@pytest.mark.parametrize("schema", SCHEMAS, ids=json.dumps)
def test_every_kind_of_schema_that_passes_the_guard_compiles(inside: Inside, schema: dict[str, Any]) -> None:
    check_schema(schema)
    sampling = Sampling(temperature=0.0, json_schema=json.dumps(schema, ensure_ascii=False))
    outcome = inside.answer("An answer in JSON: ", sampling, max_tokens=40)
    assert outcome.ending in {"stop", "length"}
    if outcome.ending == "stop":
        json.loads(outcome.text)


def test_a_setting_that_the_engine_refuses_fails_that_answer_alone(inside: Inside) -> None:
    refused = inside.submit("x", Sampling(min_tokens=9), max_tokens=3)
    fine = inside.submit("The capital of France is", max_tokens=2)
    inside.run()
    assert inside.outcomes[refused].ending == "error"
    assert inside.outcomes[fine].text.startswith(" Paris")
