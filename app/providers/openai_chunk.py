"""One chunk of an OpenAI-style stream: what of it is read, whatever the rest may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from app.domain.telling import CONTENT, TEXT, Said

_ABSENT: Final = Raw(b"")
_NULL: Final = Raw(b"null")
_FASTCHAT_ERROR: Final = Raw(b'"error"')


class Delta(msgspec.Struct):
    """What was added to one choice of a chat. Engines spell reasoning in two ways."""

    content: Raw = _ABSENT
    reasoning_content: Raw = _ABSENT
    reasoning: Raw = _ABSENT
    refusal: Raw = _ABSENT
    tool_calls: Raw = _ABSENT
    function_call: Raw = _ABSENT
    audio: Raw = _ABSENT


class Choice(msgspec.Struct):
    """`delta` of a chat, `text` of a completion."""

    index: int = 0
    delta: Delta | None = None
    text: Raw = _ABSENT
    finish_reason: Raw = _ABSENT


class _Function(msgspec.Struct):
    name: Raw = _ABSENT
    arguments: Raw = _ABSENT


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Spoken(msgspec.Struct):
    """A choice as it is compared: here no member of a delta may be overlooked."""

    index: int = 0
    delta: dict[str, Raw] | None = None
    text: Raw = _ABSENT
    finish_reason: Raw = _ABSENT
    logprobs: Raw = _ABSENT
    token_ids: Raw = _ABSENT


class _SpokenChunk(msgspec.Struct):
    choices: list[_Spoken] | None = None


class Chunk(msgspec.Struct):
    """The members that are read. A chunk of another shape does not decode."""

    choices: list[Choice] | None = None
    usage: Raw = _ABSENT
    service_tier: Raw = Raw(b"null")
    error: Raw = _ABSENT
    object: Raw = _ABSENT

    @property
    def is_error(self) -> bool:
        """An error in OpenAI's, Ollama's or FastChat's spelling."""
        return _said(self.error) or self.object == _FASTCHAT_ERROR

    @property
    def has_usage(self) -> bool:
        """True when usage is there and is not null."""
        return _said(self.usage)

    @property
    def finished(self) -> list[int]:
        """The indices of the choices that this chunk finishes."""
        return [choice.index for choice in self.choices or () if _said(choice.finish_reason)]

    @property
    def content_bytes(self) -> int:
        """How many bytes of JSON text were added to all choices together, without quotes; 0: no content."""
        return sum(_content_bytes(choice) for choice in self.choices or ())


#: The members of a delta that hold text.
_DELTA_TEXTS: Final = frozenset({CONTENT, "reasoning_content", "reasoning", "refusal"})

_chunk: Final = msgspec.json.Decoder(Chunk)
_tool_calls: Final = msgspec.json.Decoder(list[_ToolCall])
_spoken: Final = msgspec.json.Decoder(_SpokenChunk)
_text: Final = msgspec.json.Decoder(str)


def read_chunk(said: bytes) -> Chunk:
    """The chunk in these bytes. Raises msgspec.DecodeError, UnicodeDecodeError or RecursionError."""
    return _chunk.decode(said)


def read_said(said: bytes) -> list[Said]:
    """What a chunk adds to each of its choices. Of a delta, whatever is not empty and no text is `opaque`.

    Raises as `read_chunk` does.
    """
    return [_said_of(choice) for choice in _spoken.decode(said).choices or ()]


def _said_of(choice: _Spoken) -> Said:
    members = {TEXT: choice.text} if choice.delta is None else choice.delta
    texts, opaque = {}, bool(_text_bytes(choice.logprobs) or _text_bytes(choice.token_ids))
    for member, written in members.items():
        if not _said(written) or member == "role":
            continue
        if member in _DELTA_TEXTS or choice.delta is None:
            try:
                texts[member] = _text.decode(written)
            except (msgspec.DecodeError, UnicodeDecodeError):
                opaque = True  # no text, or bytes that are no character
        elif _text_bytes(written):
            opaque = True
    finish = bytes(choice.finish_reason).decode(errors="replace") if _said(choice.finish_reason) else None
    return Said(index=choice.index, texts=texts, finish=finish, opaque=opaque)


def with_rests(said: bytes, rests: Mapping[int, Mapping[str, str]]) -> bytes:
    """The chunk with these choices alone, each with these texts; all else that it says stays."""
    chunk = msgspec.json.decode(said, type=dict[str, Raw])
    choices = []
    for raw in msgspec.json.decode(chunk["choices"], type=list[Raw]):
        index = msgspec.json.decode(raw, type=_Spoken).index
        if index in rests:
            choices.append(_with_texts(msgspec.json.decode(raw, type=dict[str, Raw]), rests[index]))
    return msgspec.json.encode({**chunk, "choices": choices})


def _with_texts(choice: dict[str, Raw], texts: Mapping[str, str]) -> dict[str, object]:
    if "delta" not in choice:
        return {**choice, **texts}
    delta = msgspec.json.decode(choice["delta"], type=dict[str, Raw])
    delta.pop("role", None)  # it was told already
    return {**choice, "delta": {**delta, **texts}}


def _said(member: Raw) -> bool:
    return bool(member) and member != _NULL


def _content_bytes(choice: Choice) -> int:
    delta = choice.delta
    if delta is None:
        return _text_bytes(choice.text)
    texts = (delta.content, delta.reasoning_content, delta.reasoning, delta.refusal, delta.function_call, delta.audio)
    return sum(_text_bytes(text) for text in texts) + _tool_call_bytes(delta.tool_calls)


def _text_bytes(text: Raw) -> int:
    """Empty strings, lists and objects are two bytes of JSON, and say nothing."""
    return max(0, len(text) - 2) if _said(text) else 0


def _tool_call_bytes(calls: Raw) -> int:
    if _text_bytes(calls) == 0:
        return 0
    try:
        functions = [call.function for call in _tool_calls.decode(calls) if call.function is not None]
    except msgspec.DecodeError:
        return _text_bytes(calls)
    return max(1, sum(_text_bytes(function.name) + _text_bytes(function.arguments) for function in functions))
