"""What people write about engines: where a family tells its load, where that differs from what the product knows."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictInt, StrictStr, WithJsonSchema

from app.documents.nearest import mend_for
from app.documents.policy import OWN_ENGINE, Engine
from app.documents.words import Tokens, Written, kind_of
from app.domain.engine import OWN_PREFIX
from app.domain.signals import Entry, SignalName, figure, place

#: What an engine can tell.
SIGNALS = tuple(name.value for name in SignalName)
_FIGURE_LONGEST = 300
_PATH = r"(:[0-9]{1,5})?/[\x21-\x7e]{0,255}"

CombineWord = Literal["sum", "max", "min", "mean"]
FaultWord = Literal[
    "overloaded",
    "rate_limited",
    "money_gone",
    "auth",
    "context_overflow",
    "bad_request",
    "not_found",
    "server_error",
]


def _engine_name(word: str) -> str:
    if word not in get_args(Engine) and not re.fullmatch(OWN_ENGINE, word):
        raise ValueError(f"it is none of {', '.join(get_args(Engine))}, and does not begin with {OWN_PREFIX}")
    return word


def _signal_name(word: str) -> str:
    if word not in SIGNALS:
        raise ValueError(f"it is no signal ({mend_for(word, SIGNALS, what='signals')})")
    return word


def _figure(text: str) -> str:
    if len(text) > _FIGURE_LONGEST:
        raise ValueError(f"it has {len(text):,} characters; at most {_FIGURE_LONGEST} are allowed")
    figure(text)
    return text


def _entry(text: str) -> str:
    _figure(text)
    if not isinstance(place(text), Entry):
        raise ValueError("it must be an entry of a JSON page, written /page#key.key")
    return text


def _path(text: str) -> str:
    if not re.fullmatch(_PATH, text):
        raise ValueError("it must be a path such as /metrics, or one at another port such as :8002/metrics")
    return text


def _scale(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError(f"it must be a number, not {kind_of(value)}")
    if not 0 < value <= 10**9:
        raise ValueError("it must be over 0, and at most 1,000,000,000")
    return Decimal(value)


def _status(number: int) -> int:
    if not 400 <= number <= 599:
        raise ValueError(f"{number} is no status of a failure; write one from 400 to 599")
    return number


_NAMES = "|".join(get_args(Engine))
EngineName = Annotated[
    StrictStr,
    AfterValidator(_engine_name),
    WithJsonSchema({"type": "string", "pattern": f"^({_NAMES}|{OWN_ENGINE})$"}),
]
SignalWord = Annotated[
    StrictStr, AfterValidator(_signal_name), WithJsonSchema({"type": "string", "pattern": f"^({'|'.join(SIGNALS)})$"})
]
FigureText = Annotated[
    StrictStr, AfterValidator(_figure), WithJsonSchema({"type": "string", "maxLength": _FIGURE_LONGEST})
]
EntryText = Annotated[StrictStr, AfterValidator(_entry), WithJsonSchema({"type": "string", "pattern": "^/[^#]*#.+$"})]
PathText = Annotated[StrictStr, AfterValidator(_path), WithJsonSchema({"type": "string", "pattern": f"^{_PATH}$"})]
Scale = Annotated[Decimal, BeforeValidator(_scale), WithJsonSchema({"type": "number", "maximum": 10**9})]
Status = Annotated[
    StrictInt, AfterValidator(_status), WithJsonSchema({"type": "integer", "minimum": 400, "maximum": 599})
]


class WrittenSignal(Written):
    """One of an engine's `signals`."""

    of: list[FigureText] = Field(
        description=(
            'Where its number stands, best first: a metric (`name`, `name{label="value"}`, `name[label]` for what a '
            "label says), an entry of a JSON page (`/page#key[].key`), or two of them with ` * ` or ` / ` between. "
            "Empty: this engine does not tell it."
        ),
        examples=[['my_queue_size{status="waiting"}', "/load#queue.waiting"]],
    )
    by: CombineWord = Field(
        default="sum", description="What several series of one engine are together.", examples=["max"]
    )
    scale: Scale = Field(default=Decimal(1), description="Multiplies the number, as in percent.", examples=[0.01])
    zero_is_missing: StrictBool = Field(
        default=False, description="true: 0 means that it is switched off there.", examples=[True]
    )


class WrittenError(Written):
    """One of an engine's `errors`: fits an answer of these statuses that has one of the codes or phrases."""

    kind: FaultWord = Field(description="What it means.", examples=["overloaded"])
    statuses: list[Status] = Field(default=[], description="Left out: whatever the status.", examples=[[530]])
    codes: list[StrictStr] = Field(
        default=[], description="The error's code or type, in small letters.", examples=[["busy"]]
    )
    phrases: list[StrictStr] = Field(
        default=[], description="A part of its message, in small letters.", examples=[["try again later"]]
    )


class WrittenEngine(Written):
    """An entry of `engines`: what is different of an engine that is known, or an engine of your own."""

    like: Engine | None = Field(
        default=None,
        description="Of an own engine: the one whose table it begins with. Left out: openai_compatible.",
        examples=["vllm"],
    )
    metrics: PathText | None = Field(
        default=None,
        description="Its page in Prometheus' text format, beside `/v1` or at another port of its host.",
        examples=["/metrics", ":8002/metrics"],
    )
    health: PathText | None = Field(
        default=None, description="The page that answers 200 while it can serve.", examples=["/health"]
    )
    version: EntryText | None = Field(
        default=None, description="The entry of a JSON page that is its version.", examples=["/version#version"]
    )
    signals: dict[SignalWord, WrittenSignal] = Field(
        default={},
        description="Where it tells its load; what is not named stays as it is.",
        examples=[{"waiting": {"of": ["my_queue_size"]}}],
    )
    errors: list[WrittenError] = Field(
        default=[],
        description="How it spells failures; read before what is known.",
        examples=[[{"kind": "overloaded", "statuses": [530]}]],
    )
    priority: Literal["lower", "larger", "none"] | None = Field(
        default=None, description="Which priority it serves sooner.", examples=["lower"]
    )
    step_tokens: Tokens | None = Field(
        default=None, description="Prompt tokens that it computes in one step at the most.", examples=[8192]
    )
