from __future__ import annotations

import contextlib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.wire.openai import NO_LABELS, Labels, error_body, error_event, read_chat, read_completion, read_fields
from app.domain.errors import BadRequest
from app.domain.routing.facts import RequestFacts
from tests.makers import a_caller

HELLO = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}


def _chat(said: object) -> tuple[RequestFacts, bool]:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return read_chat(body, read_fields(body), request_id="r", caller=a_caller(), labels=NO_LABELS)


def _completion(said: dict[str, object]) -> tuple[RequestFacts, bool]:
    body = json.dumps(said).encode()
    return read_completion(body, read_fields(body), request_id="r", caller=a_caller(), labels=NO_LABELS)


def test_unknown_fields_and_number_spellings_stay_as_they_were_written() -> None:
    body = b'{"model":"chat","messages":[],"temperature":0.10,"vendor":{"a" : [1,2.50e0]}}'
    fields = read_fields(body)
    assert bytes(memoryview(fields["temperature"])) == b"0.10"
    assert bytes(memoryview(fields["vendor"])) == b'{"a" : [1,2.50e0]}'


def test_facts_are_read_from_the_structure() -> None:
    facts, usage_wanted = _chat(
        {
            **HELLO,
            "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "n": 2,
            "max_tokens": 5,
            "max_completion_tokens": 7,
            "tools": [{"type": "function"}],
            "response_format": {"type": "json_schema", "json_schema": {}},
        }
    )
    assert (facts.stream, facts.n, facts.output_tokens_most) == (True, 2, 7)
    assert (facts.has_images, facts.has_audio, facts.has_tools, facts.json_schema) == (True, False, True, True)
    assert usage_wanted


def test_a_prompt_that_talks_of_images_is_no_image() -> None:
    facts, _ = _chat({**HELLO, "messages": [{"role": "user", "content": 'write {"image_url": "x", "input_audio": 1}'}]})
    assert not facts.has_images
    assert not facts.has_audio


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"messages": "hello"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"stream": "yes"}, "stream"),
        ({"n": 0}, "n"),
        ({"n": -1}, "n"),
        ({"n": 100_000}, "n"),
        ({"n": 1.5}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": 999_999_999}, "max_tokens"),
        ({"max_completion_tokens": -5}, "max_completion_tokens"),
        ({"top_logprobs": 10**6}, "top_logprobs"),
        ({"tools": {}}, "tools"),
        ({"stream_options": 1}, "stream_options"),
    ],
)
def test_a_field_out_of_bounds_is_named(change: dict[str, object], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        _chat({**HELLO, **change})
    assert caught.value.param == param


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_missing_field_is_named(missing: str) -> None:
    with pytest.raises(BadRequest) as caught:
        _chat({name: value for name, value in HELLO.items() if name != missing})
    assert caught.value.param == missing
    assert caught.value.code == "missing_required_parameter"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b'{"model":"chat"} trailing',
        b'{"model":"chat","n":NaN}',
        b"\xef\xbb\xbf{}",
        b'{"model":"\xff"}',
        '{"model":"chat"}'.encode("utf-16"),
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["empty", "cut", "null", "array", "string", "trailing", "NaN", "BOM", "not UTF-8", "UTF-16", "deep"],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        _chat(body)


@given(st.binary(max_size=300))
def test_no_bytes_whatsoever_do_more_than_be_refused(body: bytes) -> None:
    with contextlib.suppress(BadRequest):
        facts, _ = _chat(body)
        assert facts.prompt_tokens >= 1


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [([1, 2, 3], 3), ([[1, 2], [3]], 3), ("x" * 400, 100), (["x" * 400], 100)],
    ids=["ids", "lists of ids", "text", "texts"],
)
def test_completion_prompts_come_in_four_forms(prompt: object, tokens: int) -> None:
    facts, _ = _completion({"model": "chat", "prompt": prompt})
    assert facts.prompt_tokens == pytest.approx(tokens, abs=2)


def test_a_prompt_of_mixed_kinds_is_refused() -> None:
    with pytest.raises(BadRequest) as caught:
        _completion({"model": "chat", "prompt": ["a", 1]})
    assert caught.value.param == "prompt"


def test_an_error_has_openais_shape_and_ends_a_stream_without_done() -> None:
    body = error_body(message="no", kind="server_error", param=None, code="x")
    assert json.loads(body) == {"error": {"message": "no", "type": "server_error", "param": None, "code": "x"}}
    assert error_event(body) == b"data: " + body + b"\n\n"


TURNS = [
    {"role": "user", "content": "x" * 800},
    {"role": "assistant", "content": "y" * 800},
    {"role": "user", "content": "and now?"},
]


def _in_session(said: dict[str, object], *, header: str = "", key_id: str = "abcdefgh") -> RequestFacts:
    body = json.dumps(said).encode()
    caller, labels = a_caller(key_id=key_id), Labels(session=header)
    return read_chat(body, read_fields(body), request_id="r", caller=caller, labels=labels)[0]


def test_a_conversation_is_known_by_a_digest_that_tells_nothing_of_its_name() -> None:
    session = _in_session(HELLO, header="the divorce of Smith").session
    assert re.fullmatch("[0-9a-f]{16}", session)
    assert session == _in_session({**HELLO, "messages": TURNS}, header="the divorce of Smith").session
    assert session != _in_session(HELLO, header="another").session


def test_two_keys_never_share_a_conversation() -> None:
    assert _in_session(HELLO, header="1", key_id="aaaaaaaa").session != _in_session(HELLO, header="1").session


def test_the_header_wins_over_the_bodys_cache_key_and_the_user_is_no_conversation() -> None:
    both = _in_session({**HELLO, "prompt_cache_key": "body"}, header="header")
    assert both.session == _in_session(HELLO, header="header").session
    assert _in_session({**HELLO, "prompt_cache_key": "body"}).session == _in_session(HELLO, header="body").session
    assert _in_session({**HELLO, "user": "somebody"}).session == ""
    assert _in_session({**HELLO, "prompt_cache_key": None}).session == ""


def test_the_earlier_turns_are_all_messages_but_the_last() -> None:
    facts = _in_session({**HELLO, "messages": TURNS}, header="s")
    assert facts.prefix_tokens == pytest.approx(1600 / 4, abs=25)
    assert facts.prefix_tokens < facts.prompt_tokens
    assert _in_session({**HELLO, "messages": TURNS[:1]}, header="s").prefix_tokens == 0
    assert _in_session({**HELLO, "messages": TURNS}).prefix_tokens == 0


def test_a_cache_key_that_is_no_text_is_refused_by_name() -> None:
    with pytest.raises(BadRequest) as caught:
        _chat({**HELLO, "prompt_cache_key": 5})
    assert caught.value.param == "prompt_cache_key"


def test_a_completion_may_name_its_conversation_too() -> None:
    facts, _ = _completion({"model": "chat", "prompt": "x", "prompt_cache_key": "body"})
    assert facts.session == _in_session(HELLO, header="body").session
    assert facts.prefix_tokens == 0
