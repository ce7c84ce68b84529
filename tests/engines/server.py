"""A fake engine on a real socket: a family's pages, error bodies and streams, as its makers' source has them.

    async with FakeEngine(SPOKEN["sglang"]) as engine:
        engine.full = True               # what a full queue says, where this family says it
        ...
        engine.fresh = False             # started without the flags that the doctor asks for

What a fake says is written out here as text, and shares nothing with the tables that read it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qs, urlsplit

from app.domain.errors import FaultKind
from app.domain.signals import SignalName
from app.domain.usage import Usage
from tests.upstream import (
    LAST_PART,
    Answer,
    Heard,
    ScriptedUpstream,
    Send,
    Step,
    head,
    part,
    refusal,
    stream_head,
    whole,
)

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
CONTEXT = 4096
WORDS = ("Hello", " there")
PROMPT_TOKENS = 11
CACHED_TOKENS = 8
#: A prompt of this many characters does not fit into the context of any fake.
TOO_LONG = 20_000


class Case(StrEnum):
    """What goes wrong."""

    TOO_LONG = "the prompt is too long"
    FULL = "the queue is full"
    BAD = "a field is wrong"
    DEAD = "the engine is dead"
    NO_MODEL = "the model is not there"


#: What each case is, whoever spells it.
KINDS: Mapping[Case, FaultKind] = {
    Case.TOO_LONG: FaultKind.CONTEXT_OVERFLOW,
    Case.FULL: FaultKind.OVERLOADED,
    Case.BAD: FaultKind.BAD_REQUEST,
    Case.DEAD: FaultKind.SERVER_ERROR,
    Case.NO_MODEL: FaultKind.NOT_FOUND,
}


@dataclass(frozen=True, slots=True)
class Said:
    """A status and a body. `in_stream`: a stream says it inside a 200."""

    status: int
    body: object
    in_stream: bool = False
    kind: FaultKind | None = None


Page = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """How one family speaks."""

    family: str
    #: Path → content type and text, of an engine that is started as it should be.
    pages: Mapping[str, Page]
    #: Those that are different, or not there (None), when the flags are missing.
    bare_pages: Mapping[str, Page | int] = field(default_factory=dict)
    health: str | None = "/health"
    signals: Mapping[SignalName, float]
    #: And without the flags.
    bare_signals: Mapping[SignalName, float] | None = None
    errors: Mapping[Case, Said]
    usage: Usage
    bare_usage: Usage | None = None
    version: str | None = None
    context: int | None = None
    #: The events of a stream, given its words and the usage to report (None: the caller did not ask).
    stream: Callable[[Sequence[str], Usage | None], list[bytes]]
    #: How usage is spelled.
    usage_of: Callable[[Usage], dict[str, object]]
    #: A whole answer, given its text and its usage as it is spelled.
    whole: Callable[[str, dict[str, object]], dict[str, object]] = field(default_factory=lambda: plain_answer)
    #: `x-request-id` comes back.
    echoes_id: bool = False
    #: The pages of metrics are served at a port of their own.
    other_port: str | None = None
    #: Pages that must never be asked: whoever reads them takes something away.
    forbidden: tuple[str, ...] = ()
    #: The page needs `?model=` (llama.cpp's router mode).
    needs_model: tuple[str, ...] = ()


class FakeEngine(ScriptedUpstream):
    """Speaks as told. `fresh` False: started without any flag."""

    def __init__(self, spoken: Spoken) -> None:
        super().__init__()
        self.spoken = spoken
        self.fresh = True
        self.full = False
        self.dead = False
        self.always(lambda heard: self.page(heard.path) if heard.method == "GET" else self._chat(heard))

    def page(self, address: str) -> Answer:
        """What stands at a path, with or without a query."""
        path, query, spoken = urlsplit(address).path, parse_qs(urlsplit(address).query), self.spoken
        assert path not in spoken.forbidden, f"{path} must not be read"
        if path == spoken.health:
            return refusal(503, b"") if self.dead else whole(b"")
        if path in spoken.needs_model and query.get("model") != [MODEL]:
            return refusal(
                400, b'{"error":{"code":400,"message":"model name is missing","type":"invalid_request_error"}}'
            )
        found: Page | int | None = spoken.pages.get(path)
        if not self.fresh:
            found = spoken.bare_pages.get(path, found)
        if found is None or isinstance(found, int):
            return refusal(found or 404, b'{"detail":"Not Found"}')
        kind, text = found
        return [
            head(headers=(("content-type", kind), ("content-length", str(len(text.encode()))))),
            Send(raw=text.encode()),
        ]

    def _chat(self, heard: Heard) -> Answer:
        body = heard.json
        errors = self.spoken.errors
        streamed = body.get("stream") is True
        if self.dead and Case.DEAD in errors:
            return _failed(errors[Case.DEAD], streamed)
        if body.get("model") != MODEL and Case.NO_MODEL in errors:
            return _failed(errors[Case.NO_MODEL], streamed)
        if not isinstance(body.get("messages"), list) and Case.BAD in errors:
            return _failed(errors[Case.BAD], streamed)
        if len(heard.body) > TOO_LONG and Case.TOO_LONG in errors:
            return _failed(errors[Case.TOO_LONG], streamed)
        if self.full and Case.FULL in errors:
            return _failed(errors[Case.FULL], streamed)
        return self._served(heard, body, streamed=streamed)

    def _served(self, heard: Heard, body: Mapping[str, object], *, streamed: bool) -> Answer:
        spoken = self.spoken
        usage = spoken.usage if self.fresh or spoken.bare_usage is None else spoken.bare_usage
        # Who sends none is given one.
        echo = (("x-request-id", heard.headers.get("x-request-id", "42d2c09adb97")),)
        echo = echo if spoken.echoes_id and self.fresh else ()
        if streamed:
            options = body.get("stream_options")
            asked = isinstance(options, dict) and options.get("include_usage") is True
            events = spoken.stream(WORDS, usage if asked else None)
            steps: list[Step] = [stream_head(headers=echo), *(part(event) for event in events), LAST_PART]
            return steps
        said = spoken.whole("".join(WORDS), spoken.usage_of(usage))
        return whole(json.dumps(said).encode(), headers=echo)


def plain_answer(text: str, usage: dict[str, object]) -> dict[str, object]:
    """What OpenAI's description asks for, and no more."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": usage,
    }


def _failed(said: Said, streamed: bool) -> Answer:
    body = said.body if isinstance(said.body, str) else json.dumps(said.body)
    if streamed and said.in_stream:
        return [stream_head(), part(f"data: {body}\n\n".encode()), part(b"data: [DONE]\n\n"), LAST_PART]
    return refusal(said.status, body.encode())
