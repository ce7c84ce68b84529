"""The body of an attempt is the caller's own, but for the few members that are ours to set."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.routing.facts import Endpoint
from app.domain.routing.policy import Timeouts
from app.ports import UpstreamCall
from app.providers.engines.families import FAMILIES
from app.providers.openai_request import body_of, choices_asked
from tests.makers import a_target


def a_call(
    fields: dict[str, bytes], *, stream: bool = False, usage_wanted: bool = False, endpoint: Endpoint = Endpoint.CHAT
) -> UpstreamCall:
    return UpstreamCall(
        attempt_id="a/1",
        target=a_target(model="real/name"),
        endpoint=endpoint,
        fields=fields,
        stream=stream,
        usage_wanted=usage_wanted,
        timeouts=Timeouts(),
    )


def test_the_model_is_the_targets_name_for_it_and_keeps_its_place() -> None:
    body = body_of(a_call({"a": b"1", "model": b'"chat"', "z": b"2"}))
    assert body == b'{"a":1,"model":"real/name","z":2}'


def test_unknown_fields_and_the_spelling_of_numbers_pass_byte_for_byte() -> None:
    odd = b'{ "deep" : [1.0, 1e5, 0.10, "\\u00e4\xc3\xa4", {"model": "nested"}] }'
    body = body_of(a_call({"model": b'"chat"', "vendor_thing": odd, "temperature": b"0.70"}))
    assert body == b'{"model":"real/name","vendor_thing":' + odd + b',"temperature":0.70}'


def test_fields_may_be_bytes_or_what_the_surface_decoded() -> None:
    raw = msgspec.json.decode(b'{"model":"chat","n": 1}', type=dict[str, msgspec.Raw])
    assert body_of(a_call(raw)) == body_of(a_call({"model": b'"chat"', "n": b"1"}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (None, {"include_usage": True}),
        (b"null", {"include_usage": True}),
        (b'{"include_usage":false}', {"include_usage": True}),
        (b'{"continuous_usage_stats":true}', {"continuous_usage_stats": True, "include_usage": True}),
        (b'"nonsense"', {"include_usage": True}),
    ],
)
def test_a_stream_always_asks_for_usage_and_keeps_the_other_options(options: bytes | None, sent: object) -> None:
    fields = {"model": b'"chat"', "stream": b"true", **({} if options is None else {"stream_options": options})}
    assert msgspec.json.decode(body_of(a_call(fields, stream=True)))["stream_options"] == sent


def test_who_asked_for_usage_sends_its_own_options_untouched() -> None:
    fields = {"model": b'"chat"', "stream": b"true", "stream_options": b'{ "include_usage" : true }'}
    assert b'"stream_options":{ "include_usage" : true }' in body_of(a_call(fields, stream=True, usage_wanted=True))


def test_what_is_not_streamed_has_no_stream_options() -> None:
    assert b"stream" not in body_of(a_call({"model": b'"chat"'}))


@pytest.mark.parametrize(
    ("endpoint", "fields", "choices"),
    [
        (Endpoint.CHAT, {}, 1),
        (Endpoint.CHAT, {"n": b"3"}, 3),
        (Endpoint.CHAT, {"n": b"null"}, 1),
        (Endpoint.CHAT, {"n": b'"three"'}, 1),
        (Endpoint.COMPLETIONS, {"prompt": b'"once"'}, 1),
        (Endpoint.COMPLETIONS, {"prompt": b'["a","b"]', "n": b"2"}, 4),
        (Endpoint.COMPLETIONS, {"prompt": b"[1,2,3]"}, 1),
        (Endpoint.COMPLETIONS, {"prompt": b"[[1,2],[3]]"}, 2),
        (Endpoint.COMPLETIONS, {"prompt": b"[]"}, 1),
        (Endpoint.COMPLETIONS, {"prompt": b"[broken"}, 1),
    ],
)
def test_the_choices_that_an_answer_will_have(endpoint: Endpoint, fields: dict[str, bytes], choices: int) -> None:
    assert choices_asked(a_call(fields, endpoint=endpoint)) == choices


@given(
    st.dictionaries(
        st.text(max_size=8).filter(lambda name: name not in {"model", "stream", "stream_options"}),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)),
        max_size=5,
    )
)
def test_whatever_the_caller_sends_arrives(said: dict[str, object]) -> None:
    fields = {name: msgspec.json.encode(each) for name, each in {**said, "model": "chat"}.items()}
    assert msgspec.json.decode(body_of(a_call(fields))) == {**said, "model": "real/name"}


def test_a_chat_goes_on_behind_its_beginning_with_the_words_of_its_engine() -> None:
    fields = {"model": b'"chat"', "messages": b'[{"role":"user","content":"hi"}]', "max_completion_tokens": b"90"}
    for name, flags in (
        ("vllm", {"continue_final_message": True, "add_generation_prompt": False}),
        ("sglang", {"continue_final_message": True}),
    ):
        target = replace(a_target(), kind=name, family=FAMILIES[name])
        call = replace(a_call(fields, stream=True), target=target, prefix='Grüße "', output_tokens_cap=70)
        sent = msgspec.json.decode(body_of(call))
        assert sent["messages"] == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": 'Grüße "'}]
        assert {key: sent[key] for key in flags} == flags
        assert (sent["max_tokens"], "max_completion_tokens" in sent) == (70, False)


def test_a_completion_goes_on_behind_prompt_and_beginning() -> None:
    call = replace(a_call({"prompt": b'"Say: \\""'}, endpoint=Endpoint.COMPLETIONS), prefix="Grüße")
    assert msgspec.json.decode(body_of(call))["prompt"] == 'Say: "Grüße'


def test_only_families_that_are_known_to_go_on_are_said_to() -> None:
    assert {name for name, family in FAMILIES.items() if family.continues is not None} == {"vllm", "sglang"}
