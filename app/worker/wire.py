"""What callers may ask for, in vLLM's spelling. What is read is obeyed; everything else is refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.worker.fields import Fields, token_ids
from app.worker.messages import Sampling
from app.worker.refusals import bad_value, malformed, max_tokens_over_context, unsupported
from app.worker.schema_guard import SchemaRefused, check_schema

CHOICES_MOST: Final = 8
STOPS_MOST: Final = 16
STOP_CHARACTERS_MOST: Final = 1024
MESSAGES_MOST: Final = 4096
SEED_MOST: Final = 2**63 - 1
#: vLLM's, and OpenAI's, for `/v1/completions`.
COMPLETION_TOKENS: Final = 16
SCHEMA_BYTES_MOST: Final = 64 * 1024

_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class Chat:
    """Messages with a role and a content each."""

    messages: tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request, understood. `prompt` is text, token ids, or a chat."""

    model: str
    prompt: str | tuple[int, ...] | Chat
    chat: bool
    add_special_tokens: bool
    sampling: Sampling
    choices: int
    stream: bool
    include_usage: bool
    usage_on_each: bool
    seeded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeAsk:
    model: str | None
    prompt: str | Chat
    add_special_tokens: bool
    add_generation_prompt: bool
    with_strings: bool


def read_chat(body: bytes, *, context_tokens: int) -> Ask:
    """Raises Refusal."""
    fields = Fields(body)
    asked = [name for name in ("max_completion_tokens", "max_tokens") if fields.get(name) is not None]
    limits = [fields.whole(name, least=1) for name in asked]
    return _ask(
        fields,
        prompt=_messages(fields),
        chat=True,
        max_tokens=limits[0] if limits else None,
        add_special_tokens=fields.flag("add_special_tokens", default=False),
        context_tokens=context_tokens,
    )


def read_completion(body: bytes, *, context_tokens: int) -> Ask:
    """Raises Refusal."""
    fields = Fields(body)
    return _ask(
        fields,
        prompt=_prompt(fields),
        chat=False,
        max_tokens=fields.whole("max_tokens", default=COMPLETION_TOKENS, least=1),
        add_special_tokens=fields.flag("add_special_tokens", default=True),
        context_tokens=context_tokens,
    )


def read_tokenize(body: bytes) -> TokenizeAsk:
    """Raises Refusal."""
    fields = Fields(body)
    chat = fields.get("messages") is not None
    ask = TokenizeAsk(
        model=fields.text("model", default="") or None,
        prompt=_messages(fields) if chat else fields.text("prompt"),
        add_special_tokens=fields.flag("add_special_tokens", default=not chat),
        add_generation_prompt=fields.flag("add_generation_prompt", default=True),
        with_strings=fields.flag("return_token_strs", default=False),
    )
    fields.refuse_the_rest()
    return ask


def read_detokenize(body: bytes) -> tuple[str | None, tuple[int, ...]]:
    """The model, if named, and the tokens. Raises Refusal."""
    fields = Fields(body)
    model, tokens = fields.text("model", default=""), fields.numbers("tokens")
    fields.refuse_the_rest()
    return model or None, tokens


def _ask(
    fields: Fields,
    *,
    prompt: str | tuple[int, ...] | Chat,
    chat: bool,
    max_tokens: int | None,
    add_special_tokens: bool,
    context_tokens: int,
) -> Ask:
    if max_tokens is not None and max_tokens > context_tokens:
        raise max_tokens_over_context(max_tokens, context_tokens=context_tokens)
    stream = fields.flag("stream", default=False)
    include_usage, usage_on_each = _stream_options(fields, stream=stream)
    seeded = fields.get("seed") is not None
    ask = Ask(
        model=fields.text("model"),
        prompt=prompt,
        chat=chat,
        add_special_tokens=add_special_tokens,
        sampling=_sampling(fields, max_tokens=max_tokens),
        choices=fields.whole("n", default=1, least=1, most=CHOICES_MOST),
        stream=stream,
        include_usage=include_usage,
        usage_on_each=usage_on_each,
        seeded=seeded,
    )
    fields.refuse_the_rest()
    return ask


def _sampling(fields: Fields, *, max_tokens: int | None) -> Sampling:
    top_k = fields.whole("top_k", default=0, least=-1)
    min_tokens = fields.whole("min_tokens", default=0, least=0)
    if max_tokens is not None and min_tokens > max_tokens:
        raise bad_value(f"min_tokens must be at most max_tokens={max_tokens}, got {min_tokens}.", field="min_tokens")
    return Sampling(
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        temperature=fields.number("temperature", default=1.0, least=0.0, most=100.0),
        top_p=fields.number("top_p", default=1.0, least=0.0, most=1.0, open_below=True),
        top_k=max(top_k, 0),
        min_p=fields.number("min_p", default=0.0, least=0.0, most=1.0),
        seed=fields.whole("seed", default=0, least=-SEED_MOST, most=SEED_MOST),
        presence_penalty=fields.number("presence_penalty", default=0.0, least=-2.0, most=2.0),
        frequency_penalty=fields.number("frequency_penalty", default=0.0, least=-2.0, most=2.0),
        repetition_penalty=fields.number("repetition_penalty", default=1.0, least=0.0, most=10.0, open_below=True),
        stop=_stop(fields),
        stop_token_ids=fields.numbers("stop_token_ids", default=()),
        include_stop=fields.flag("include_stop_str_in_output", default=False),
        ignore_eos=fields.flag("ignore_eos", default=False),
        skip_special_tokens=fields.flag("skip_special_tokens", default=True),
        json_schema=_json_schema(fields),
    )


def _stop(fields: Fields) -> tuple[str, ...]:
    value = fields.take("stop")
    stops = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise malformed("Input should be a string or a list of strings.", field="stop")
    if len(stops) > STOPS_MOST or any(not 0 < len(stop) <= STOP_CHARACTERS_MOST for stop in stops):
        raise bad_value(
            f"stop takes at most {STOPS_MOST} strings of 1 to {STOP_CHARACTERS_MOST} characters.", field="stop"
        )
    return tuple(dict.fromkeys(stops))


def _stream_options(fields: Fields, *, stream: bool) -> tuple[bool, bool]:
    options = fields.take("stream_options")
    if options is None:
        return False, False
    if not isinstance(options, dict):
        raise malformed("Input should be an object.", field="stream_options")
    if not stream:
        raise malformed("Stream options can only be defined when `stream=True`.", field="stream_options")
    inner = Fields.of(options, path="stream_options")
    include_usage = inner.flag("include_usage", default=False)
    usage_on_each = inner.flag("continuous_usage_stats", default=False)
    inner.refuse_the_rest()
    return include_usage, include_usage and usage_on_each


def _json_schema(fields: Fields) -> str | None:
    value = fields.take("response_format")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise malformed("Input should be an object.", field="response_format")
    outer = Fields.of(value, path="response_format")
    kind = outer.text("type")
    if kind not in {"text", "json_object", "json_schema"}:
        raise malformed("Input should be 'text', 'json_object' or 'json_schema'.", field="response_format.type")
    wrapper = outer.take("json_schema") if kind == "json_schema" else None
    outer.refuse_the_rest()
    if kind != "json_schema":
        return '{"type":"object"}' if kind == "json_object" else None
    if not isinstance(wrapper, dict):
        raise malformed("Field required.", field="response_format.json_schema")
    return _checked_schema(wrapper)


def _checked_schema(wrapper: dict[str, Any]) -> str:
    path = "response_format.json_schema"
    inner = Fields.of(wrapper, path=path)
    schema = inner.take("schema")
    inner.text("name")
    inner.text("description", default="")
    inner.flag("strict", default=False)
    inner.refuse_the_rest()
    try:
        check_schema(schema)
    except SchemaRefused as refused:
        place = ".".join(filter(None, (path, "schema", refused.place)))
        raise bad_value(f"{place}: {refused}", field="response_format") from refused
    text = json.dumps(schema, ensure_ascii=False)
    if len(text.encode()) > SCHEMA_BYTES_MOST:
        raise bad_value(f"The schema is larger than {SCHEMA_BYTES_MOST} bytes.", field="response_format")
    return text


def _prompt(fields: Fields) -> str | tuple[int, ...]:
    """A string, a list of token ids, or a list with one of either."""
    value = fields.take("prompt")
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | list):
        value = value[0]
    if isinstance(value, str):
        return value
    if isinstance(value, list) and any(isinstance(item, str | list) for item in value):
        raise bad_value("This worker answers one prompt per request.", field="prompt")
    if isinstance(value, list):
        return token_ids(value, field="prompt")
    raise malformed("Field required: a string or a list of token ids.", field="prompt")


def _messages(fields: Fields) -> Chat:
    value = fields.take("messages")
    if not isinstance(value, list) or not value:
        raise malformed("Field required: a list of messages.", field="messages")
    if len(value) > MESSAGES_MOST:
        raise bad_value(f"At most {MESSAGES_MOST} messages are supported.", field="messages")
    return Chat(tuple(_message(message, path=f"messages.{index}") for index, message in enumerate(value)))


def _message(value: object, *, path: str) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise malformed("Input should be an object.", field=path)
    fields = Fields.of(value, path=path)
    role = fields.text("role")
    if role not in _ROLES:
        raise bad_value(f"The role `{role}` is not supported by this worker.", field=f"{path}.role")
    content = _content(fields.take("content"), path=f"{path}.content")
    fields.text("name", default="")
    for name in ("refusal", "tool_calls", "audio", "function_call", "annotations", "reasoning", "reasoning_content"):
        if fields.take(name) not in (None, [], ""):
            raise unsupported(f"{path}.{name}")
    fields.refuse_the_rest()
    return {"role": _ROLES[role], "content": content}


def _content(value: object, *, path: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise malformed("Input should be a string or a list of parts.", field=path)
    texts = []
    for index, part in enumerate(value):
        if not isinstance(part, dict):
            raise malformed("Input should be an object.", field=f"{path}.{index}")
        fields = Fields.of(part, path=f"{path}.{index}")
        if fields.text("type") != "text":
            raise bad_value("Only text is supported by this worker.", field=f"{path}.{index}.type")
        texts.append(fields.text("text"))
        fields.refuse_the_rest()
    return "\n".join(texts)
