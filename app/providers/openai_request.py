"""The body of an attempt: the caller's own fields, byte for byte, with the few members that are ours to set."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from app.domain.routing.facts import Endpoint
from app.domain.target import Hosting
from app.ports import UpstreamCall

_TRUE: Final = Raw(b"true")
_USAGE_ASKED: Final = Raw(b'{"include_usage":true}')

#: The fields by which callers cap an answer.
_CAPS: Final = frozenset({"max_tokens", "max_completion_tokens"})

_encode: Final = msgspec.json.Encoder().encode
_options: Final = msgspec.json.Decoder(dict[str, Raw] | None)


def body_of(call: UpstreamCall) -> bytes:
    """The JSON to send. `model` is the target's name for it; a stream asks for usage; all else is the caller's."""
    fields = {name: each if type(each) is Raw else Raw(each) for name, each in call.fields.items()}
    fields["model"] = Raw(_encode(call.target.model))
    if call.output_tokens_cap is not None:
        for word in _CAPS:
            fields.pop(word, None)  # a cap that is null is none
        fields[_cap_of(call)] = Raw(_encode(call.output_tokens_cap))
    if call.prefix:
        fields.update(_begun_with(call.prefix, call, fields))
    if call.stream:
        fields["stream"] = _TRUE
        if not call.usage_wanted:
            fields["stream_options"] = _with_usage(fields.get("stream_options"))
    return _encode(fields)


def _begun_with(prefix: str, call: UpstreamCall, fields: dict[str, Raw]) -> dict[str, Raw]:
    """The fields that ask for what follows this beginning of the answer."""
    if call.endpoint is Endpoint.COMPLETIONS:
        return {"prompt": Raw(_encode(msgspec.json.decode(fields["prompt"], type=str) + prefix))}
    family = call.target.family
    assert family is not None, "only a target that can go on with a beginning is asked to"
    assert family.continues is not None, "only a target that can go on with a beginning is asked to"
    messages = msgspec.json.decode(fields["messages"], type=list[Raw])
    begun = Raw(_encode({"role": "assistant", "content": prefix}))
    flags = {name: Raw(_encode(value)) for name, value in family.continues.items()}
    return {"messages": Raw(_encode([*messages, begun])), **flags}


def _cap_of(call: UpstreamCall) -> str:
    """OpenAI's newer models take the newer word for chats only; engines all know the older one."""
    is_newer = call.endpoint is Endpoint.CHAT and call.target.hosting is Hosting.MANAGED
    return "max_completion_tokens" if is_newer else "max_tokens"


def choices_asked(call: UpstreamCall) -> int:
    """How many choices the answer will have: `n`, for every prompt of a completion. 1 where that cannot be read."""
    per_prompt = _whole_number(call.fields.get("n"))
    if call.endpoint is not Endpoint.COMPLETIONS:
        return per_prompt
    return per_prompt * _prompts(call.fields.get("prompt"))


def _with_usage(options: Raw | None) -> Raw:
    """The caller's options with `include_usage`, the others kept."""
    if options is None:
        return _USAGE_ASKED
    try:
        kept = _options.decode(options) or {}
    except msgspec.DecodeError:
        return _USAGE_ASKED
    return Raw(_encode({**kept, "include_usage": _TRUE}))


def _whole_number(field: bytes | Raw | None) -> int:
    if field is None:
        return 1
    try:
        return max(1, msgspec.json.decode(field, type=int))
    except msgspec.DecodeError:
        return 1


def _prompts(field: bytes | Raw | None) -> int:
    """A prompt is a text, a list of texts, a list of token ids, or a list of such lists."""
    if field is None or bytes(memoryview(field)[:1]) != b"[":
        return 1
    try:
        prompts = msgspec.json.decode(field, type=list[Raw])
    except msgspec.DecodeError:
        return 1
    several = bool(prompts) and bytes(memoryview(prompts[0])[:1]) in {b'"', b"["}
    return len(prompts) if several else 1
