"""OpenAI's spelling: a body becomes facts and raw fields. Decodes only what is read; the rest passes byte for byte."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Raw

from app.domain.caller import Caller
from app.domain.errors import BadRequest
from app.domain.metering import estimate
from app.domain.routing.facts import Endpoint, RequestFacts

#: OpenAI's own bound on choices per request.
MOST_CHOICES = 128
#: No model writes more; a larger number is a mistake or an attack.
MOST_OUTPUT_TOKENS = 1_000_000
MOST_LOGPROBS = 20
#: Of the name under which facts keep a conversation: 16 hex digits.
SESSION_BYTES = 8

Choices = Annotated[int, Meta(ge=1, le=MOST_CHOICES)]
OutputTokens = Annotated[int, Meta(ge=1, le=MOST_OUTPUT_TOKENS)]
Logprobs = Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)]


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class ResponseFormat(msgspec.Struct):
    type: str


class Message(msgspec.Struct):
    role: str


class ChatBody(msgspec.Struct):
    """What we read of a chat request."""

    model: str
    messages: Annotated[list[Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Choices | None = None
    max_tokens: OutputTokens | None = None
    max_completion_tokens: OutputTokens | None = None
    top_logprobs: Logprobs | None = None
    tools: list[Raw] | None = None
    prompt_cache_key: str | None = None
    response_format: ResponseFormat | None = None


class CompletionBody(msgspec.Struct):
    """What we read of a completion request."""

    model: str
    prompt: str | list[str | int | list[int]]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Choices | None = None
    best_of: Choices | None = None
    max_tokens: OutputTokens | None = None
    logprobs: Logprobs | None = None
    prompt_cache_key: str | None = None
    response_format: ResponseFormat | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What a caller may say about its request in headers: it steers rules and reports, never identity."""

    data_class: str = ""
    deadline_s: float | None = None
    priority: int = 0
    tags: tuple[str, ...] = ()
    caller_label: str | None = None
    #: The caller's own name for the conversation; facts never hold it.
    session: str = ""


NO_LABELS = Labels()

_Body = TypeVar("_Body")
_fields = msgspec.json.Decoder(dict[str, Raw])
_chat = msgspec.json.Decoder(ChatBody)
_completion = msgspec.json.Decoder(CompletionBody)
_elements = msgspec.json.Decoder(list[Raw])


def read_fields(body: bytes) -> dict[str, Raw]:
    """The top level of the body, each value its own bytes. Raises BadRequest for anything but one JSON object."""
    return _decoded(_fields, body)


def read_chat(
    body: bytes, fields: dict[str, Raw], *, request_id: str, caller: Caller, labels: Labels
) -> tuple[RequestFacts, bool]:
    """Facts of a chat request, and whether its caller wants to see usage on the stream. Raises BadRequest."""
    said = _decoded(_chat, body)
    messages = memoryview(fields["messages"])
    content = bytes(messages)
    session = _session(labels.session or said.prompt_cache_key, caller=caller)
    facts = RequestFacts(
        request_id=request_id,
        endpoint=Endpoint.CHAT,
        model=said.model,
        stream=bool(said.stream),
        prompt_tokens=estimate.prompt_tokens(body_bytes=len(messages)),
        output_tokens_most=said.max_completion_tokens or said.max_tokens,
        n=said.n or 1,
        has_tools=bool(said.tools),
        # Inside a JSON string a quote is escaped, so that these bytes are a key or a value of the structure.
        has_images=b'"image_url"' in content,
        has_audio=b'"input_audio"' in content,
        json_schema=_wants_json(said.response_format),
        data_class=labels.data_class,
        deadline_s=labels.deadline_s,
        priority=labels.priority,
        tags=labels.tags,
        session=session,
        prefix_tokens=_prefix_tokens(messages) if session else 0,
        caller=caller,
    )
    return facts, _wants_usage(said.stream_options)


def read_completion(
    body: bytes, fields: dict[str, Raw], *, request_id: str, caller: Caller, labels: Labels
) -> tuple[RequestFacts, bool]:
    """Facts of a completion request, and whether its caller wants to see usage. Raises BadRequest."""
    said = _decoded(_completion, body)
    facts = RequestFacts(
        request_id=request_id,
        endpoint=Endpoint.COMPLETIONS,
        model=said.model,
        stream=bool(said.stream),
        prompt_tokens=_completion_tokens(said, body_bytes=len(memoryview(fields["prompt"]))),
        output_tokens_most=said.max_tokens,
        n=max(said.n or 1, said.best_of or 1),
        json_schema=_wants_json(said.response_format),
        data_class=labels.data_class,
        deadline_s=labels.deadline_s,
        priority=labels.priority,
        tags=labels.tags,
        session=_session(labels.session or said.prompt_cache_key, caller=caller),
        caller=caller,
    )
    return facts, _wants_usage(said.stream_options)


def error_body(*, message: str, kind: str, param: str | None, code: str | None) -> bytes:
    """OpenAI's error object."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def error_event(body: bytes) -> bytes:
    """The error as a stream's last event; no `[DONE]` follows it."""
    return b"data: " + body + b"\n\n"


def _decoded(decoder: msgspec.json.Decoder[_Body], body: bytes) -> _Body:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as fault:
        raise _wrong_field(str(fault)) from fault
    except UnicodeDecodeError as fault:
        raise BadRequest("the body is not valid UTF-8; send it as UTF-8", code="invalid_json") from fault
    except msgspec.DecodeError as fault:
        raise BadRequest(f"the body is not valid JSON: {fault}", code="invalid_json") from fault
    except RecursionError as fault:
        raise BadRequest("the body is nested too deeply; flatten it", code="invalid_json") from fault


def _wrong_field(problem: str) -> BadRequest:
    """msgspec says "Expected `int`, got `str` - at `$.n`" or "Object missing required field `model`"."""
    what, _, place = problem.partition(" - at `$")
    param = place.rstrip("`").lstrip(".") or None
    missing = "Object missing required field `"
    if what.startswith(missing):
        name = what.removeprefix(missing).rstrip("`")
        param = f"{param}.{name}" if param else name
        return BadRequest(f"you must provide the field {param}", param=param, code="missing_required_parameter")
    if param is None:
        return BadRequest(f"the body must be a JSON object: {what}", code="invalid_type")
    return BadRequest(f"{param}: {what}", param=param, code="invalid_value")


def _wants_usage(options: StreamOptions | None) -> bool:
    return options is not None and bool(options.include_usage)


def _wants_json(wanted: ResponseFormat | None) -> bool:
    return wanted is not None and wanted.type in {"json_schema", "json_object"}


def _session(said: str | None, *, caller: Caller) -> str:
    """The conversation's name on facts and receipts: it cannot be turned back into the caller's text, and two keys that
    use the same text have two conversations."""
    if not said:
        return ""
    return blake2b(f"{caller.key_id}\0{said}".encode(), digest_size=SESSION_BYTES).hexdigest()


def _prefix_tokens(messages: memoryview) -> int:
    """About how many tokens all messages but the last have; 0 for a conversation that begins."""
    each = _elements.decode(messages)
    if len(each) < 2:
        return 0
    return estimate.prompt_tokens(body_bytes=len(messages) - len(memoryview(each[-1])))


def _completion_tokens(said: CompletionBody, *, body_bytes: int) -> int:
    prompt = said.prompt
    if isinstance(prompt, str):
        return estimate.prompt_tokens(body_bytes=body_bytes)
    kinds = {type(each) for each in prompt}
    if len(kinds) != 1:
        raise BadRequest(
            "prompt: must be a text, a list of texts, a list of token ids, or a list of lists of token ids",
            param="prompt",
            code="invalid_value",
        )
    if kinds == {str}:
        return estimate.prompt_tokens(body_bytes=body_bytes)
    return sum(len(each) if isinstance(each, list) else 1 for each in prompt)
