"""app.worker.wire and app.worker.fields: what callers may ask for."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.worker.fields import Fields
from app.worker.messages import Sampling
from app.worker.refusals import Refusal
from app.worker.wire import Ask, Chat, read_chat, read_completion, read_detokenize, read_tokenize

HELLO = [{"role": "user", "content": "hello"}]


def chat(**more: Any) -> Ask:
    return read_chat(json.dumps({"model": "m", "messages": HELLO, **more}).encode(), context_tokens=8192)


def completion(**more: Any) -> Ask:
    return read_completion(json.dumps({"model": "m", "prompt": "hello", **more}).encode(), context_tokens=8192)


def refusal(read: Callable[[], object]) -> Refusal:
    with pytest.raises(Refusal) as raised:
        read()
    return raised.value


def test_a_plain_chat_is_free_text_with_the_defaults_of_vllm() -> None:
    ask = chat()
    assert ask.sampling == Sampling()
    assert ask.prompt == Chat(({"role": "user", "content": "hello"},))
    assert (ask.choices, ask.stream, ask.include_usage, ask.seeded, ask.add_special_tokens) == (
        1,
        False,
        False,
        False,
        False,
    )


def test_a_plain_completion_has_sixteen_tokens() -> None:
    assert completion().sampling == Sampling(max_tokens=16)
    assert completion().add_special_tokens


def test_everything_that_is_supported_arrives() -> None:
    ask = chat(
        max_completion_tokens=5,
        max_tokens=9,
        min_tokens=2,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.1,
        seed=-3,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.1,
        stop=["a", "b", "a"],
        stop_token_ids=[7],
        include_stop_str_in_output=True,
        ignore_eos=True,
        skip_special_tokens=False,
        n=3,
        stream=True,
        stream_options={"include_usage": True, "continuous_usage_stats": True},
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "x", "strict": True, "schema": {"type": "null"}},
        },
        add_special_tokens=True,
        user="u",
        metadata={"a": "b"},
    )
    assert ask.sampling == Sampling(
        max_tokens=5,
        min_tokens=2,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.1,
        seed=-3,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.1,
        stop=("a", "b"),
        stop_token_ids=(7,),
        include_stop=True,
        ignore_eos=True,
        skip_special_tokens=False,
        json_schema='{"type": "null"}',
    )
    assert (ask.choices, ask.stream, ask.include_usage, ask.usage_on_each, ask.seeded) == (3, True, True, True, True)
    assert ask.add_special_tokens


def test_one_stop_string_needs_no_list() -> None:
    assert completion(stop="x").sampling.stop == ("x",)


@pytest.mark.parametrize("off", [-1, 0])
def test_top_k_has_two_ways_to_be_off(off: int) -> None:
    assert chat(top_k=off).sampling.top_k == 0


@pytest.mark.parametrize(("kind", "schema"), [("text", None), ("json_object", '{"type":"object"}')])
def test_simple_response_formats(kind: str, schema: str | None) -> None:
    assert chat(response_format={"type": kind}).sampling.json_schema == schema


@pytest.mark.parametrize(
    ("prompt", "read"), [("x", "x"), ([1, 2], (1, 2)), (["x"], "x"), ([[1, 2]], (1, 2)), ([], ()), ("", "")]
)
def test_a_prompt_is_text_or_tokens_or_a_list_with_one(prompt: Any, read: Any) -> None:
    assert completion(prompt=prompt).prompt == read


def test_parts_of_text_are_joined_and_developers_are_the_system() -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "name": "ann", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c", "refusal": None, "tool_calls": []},
    ]
    read = chat(messages=messages).prompt
    assert read == Chat(
        (
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "a\nb"},
            {"role": "assistant", "content": "c"},
        )
    )


OFF: list[tuple[str, Any]] = [
    ("tools", []),
    ("tools", None),
    ("tool_choice", "none"),
    ("tool_choice", "auto"),
    ("logprobs", False),
    ("logprobs", None),
    ("top_logprobs", 0),
    ("n", 1),
    ("n", None),
    ("logit_bias", {}),
    ("echo", False),
    ("best_of", 1),
    ("suffix", None),
    ("length_penalty", 1),
    ("length_penalty", 1.0),
    ("response_format", None),
    ("stream_options", None),
    ("parallel_tool_calls", True),
    ("service_tier", "auto"),
    ("store", False),
    ("a_field_of_next_year", None),
]


@pytest.mark.parametrize(("field", "value"), OFF, ids=str)
def test_a_value_that_means_off_is_fine(field: str, value: Any) -> None:
    assert chat(**{field: value}).sampling == Sampling()


ON: list[tuple[str, Any]] = [
    ("tools", [{"type": "function", "function": {"name": "f"}}]),
    ("tool_choice", "required"),
    ("functions", [{}]),
    ("logprobs", True),
    ("logprobs", 0),
    ("top_logprobs", 2),
    ("logit_bias", {"5": 1}),
    ("echo", True),
    ("best_of", 2),
    ("suffix", "x"),
    ("length_penalty", 0.5),
    ("prompt_logprobs", 1),
    ("audio", {}),
    ("modalities", ["audio"]),
    ("guided_json", {}),
    ("structured_outputs", {"regex": "a"}),
    ("chat_template", "x"),
    ("cache_salt", "x"),
    ("priority", 1),
    ("continue_final_message", True),
    ("add_generation_prompt", False),
    ("store", True),
    ("reasoning_effort", "high"),
    ("web_search_options", {}),
    ("a_field_of_next_year", 0),
    ("a_field_of_next_year", False),
]


@pytest.mark.parametrize(("field", "value"), ON, ids=str)
def test_what_is_not_supported_is_refused_by_name(field: str, value: Any) -> None:
    refused = refusal(lambda: chat(**{field: value}))
    assert (refused.status, refused.kind, refused.param) == (400, "BadRequestError", field)
    assert f"`{field}`" in refused.message


MALFORMED: list[tuple[bytes, str | None]] = [
    (b"", None),
    (b"{", None),
    (b"[]", None),
    (b"null", None),
    (b'{"model": "m"} x', None),
    (b"\xff\xfe", None),
    (b'{"model": "m", "messages": ' + b"[" * 100_000, None),
    (b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}', None),
    (b'{"messages": [{"role": "user", "content": "x"}]}', "body.model"),
    (b'{"model": 3, "messages": [{"role": "user", "content": "x"}]}', "body.model"),
    (b'{"model": "m"}', "body.messages"),
    (b'{"model": "m", "messages": []}', "body.messages"),
    (b'{"model": "m", "messages": "x"}', "body.messages"),
    (b'{"model": "m", "messages": [3]}', "body.messages.0"),
    (b'{"model": "m", "messages": [{"content": "x"}]}', "body.messages.0.role"),
    (b'{"model": "m", "messages": [{"role": "user"}]}', "body.messages.0.content"),
    (b'{"model": "m", "messages": [{"role": "user", "content": [3]}]}', "body.messages.0.content.0"),
]


@pytest.mark.parametrize(("body", "param"), MALFORMED, ids=lambda value: str(value)[:50])
def test_a_malformed_body_is_refused_as_vllm_does(body: bytes, param: str | None) -> None:
    refused = refusal(lambda: read_chat(body, context_tokens=8192))
    assert (refused.status, refused.kind, refused.param) == (400, "Bad Request", param)


WRONG_TYPES: list[tuple[str, Any]] = [
    ("max_tokens", "5"),
    ("max_tokens", 5.0),
    ("max_tokens", True),
    ("temperature", "hot"),
    ("temperature", True),
    ("stream", 1),
    ("stop", 3),
    ("stop", [3]),
    ("stop_token_ids", ["a"]),
    ("stop_token_ids", 5),
    ("seed", 1.5),
    ("n", "1"),
    ("response_format", "json"),
    ("response_format.type", {"type": "xml"}),
    ("response_format.json_schema", {"type": "json_schema"}),
    ("stream_options", True),
]


@pytest.mark.parametrize(("field", "value"), WRONG_TYPES, ids=str)
def test_a_wrong_type_is_malformed_and_named(field: str, value: Any) -> None:
    refused = refusal(lambda: chat(**{field.partition(".")[0]: value}))
    assert (refused.status, refused.kind, refused.param) == (400, "Bad Request", f"body.{field}")


OUT_OF_BOUNDS: list[tuple[str, Any]] = [
    ("max_tokens", 0),
    ("max_tokens", -5),
    ("n", 0),
    ("n", 9),
    ("n", 10**9),
    ("temperature", -0.1),
    ("top_p", 0),
    ("top_p", 1.1),
    ("top_k", -2),
    ("min_p", 2),
    ("presence_penalty", 3),
    ("repetition_penalty", 0),
    ("seed", 2**63),
    ("stop", [""]),
    ("stop", ["x"] * 17),
    ("stop", ["x" * 2000]),
    ("min_tokens", -1),
]


@pytest.mark.parametrize(("field", "value"), OUT_OF_BOUNDS, ids=lambda value: str(value)[:30])
def test_an_absurd_value_is_refused_and_named(field: str, value: Any) -> None:
    refused = refusal(lambda: chat(**{field: value}))
    assert (refused.status, refused.kind, refused.param) == (400, "BadRequestError", field)


def test_more_tokens_than_the_context_is_vllms_refusal() -> None:
    refused = refusal(lambda: chat(max_tokens=100_000))
    assert refused.body == {
        "error": {
            "message": "max_tokens=100000 cannot be greater than max_model_len=8192. "
            "Please request fewer output tokens. (parameter=max_tokens, value=100000)",
            "type": "BadRequestError",
            "param": "max_tokens",
            "code": 400,
        }
    }


def test_a_minimum_above_the_maximum_is_refused() -> None:
    assert refusal(lambda: chat(max_tokens=3, min_tokens=4)).param == "min_tokens"


def test_stream_options_without_a_stream_are_refused() -> None:
    assert refusal(lambda: chat(stream_options={"include_usage": True})).param == "body.stream_options"


def test_unknown_stream_options_are_refused() -> None:
    refused = refusal(lambda: chat(stream=True, stream_options={"include_obfuscation": True}))
    assert refused.param == "stream_options.include_obfuscation"


def test_a_schema_that_the_engine_may_not_compile_is_refused_with_its_place() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "patern": "x"}}}
    refused = refusal(
        lambda: chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    )
    assert refused.param == "response_format"
    assert "schema.properties.a: `patern`" in refused.message


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "tool", "content": "x"}, "messages.0.role"),
        ({"role": "assistant", "content": "x", "tool_calls": [{}]}, "messages.0.tool_calls"),
        ({"role": "user", "content": "x", "unheard_of": 1}, "messages.0.unheard_of"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "messages.0.content.0.type"),
    ],
)
def test_a_message_that_is_not_text_is_refused(message: dict[str, Any], param: str) -> None:
    assert refusal(lambda: chat(messages=[message])).param == param


@pytest.mark.parametrize("prompt", [["a", "b"], [[1], [2]]])
def test_only_one_prompt_a_request(prompt: Any) -> None:
    assert refusal(lambda: completion(prompt=prompt)).param == "prompt"


@pytest.mark.parametrize("prompt", [None, 5, {}, [1.5], [True], [2**40]])
def test_what_is_no_prompt_is_malformed(prompt: Any) -> None:
    assert refusal(lambda: completion(prompt=prompt)).param == "body.prompt"


def test_tokenize_takes_text_or_a_chat() -> None:
    text = read_tokenize(b'{"prompt": "x", "return_token_strs": true}')
    assert (text.prompt, text.add_special_tokens, text.with_strings, text.model) == ("x", True, True, None)
    dialogue = read_tokenize(json.dumps({"model": "m", "messages": HELLO, "add_generation_prompt": False}).encode())
    assert dialogue.prompt == Chat(({"role": "user", "content": "hello"},))
    assert not dialogue.add_special_tokens
    assert not dialogue.add_generation_prompt
    assert refusal(lambda: read_tokenize(b"{}")).param == "body.prompt"


def test_detokenize_takes_tokens() -> None:
    assert read_detokenize(b'{"tokens": [1, 2]}') == (None, (1, 2))
    assert refusal(lambda: read_detokenize(b"{}")).param == "body.tokens"


@given(
    st.dictionaries(
        st.sampled_from(
            ["model", "messages", "stop", "n", "seed", "temperature", "stream", "response_format", "tools", "x"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=6,
        ),
    )
)
def test_any_json_is_read_or_refused_and_nothing_else(body: dict[str, Any]) -> None:
    for read in (read_chat, read_completion):
        with contextlib.suppress(Refusal):
            assert read(json.dumps(body).encode(), context_tokens=8192).model == body["model"]


def test_fields_that_nobody_took_are_refused_in_their_order() -> None:
    fields = Fields(b'{"b": 1, "a": 2}')
    assert fields.whole("b", least=0) == 1
    assert refusal(fields.refuse_the_rest).param == "a"
