"""Facts: what is known of a request before anything is decided. Never its text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.domain.caller import Caller


class Endpoint(StrEnum):
    """The surface the caller used."""

    CHAT = "chat"
    COMPLETIONS = "completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """Everything a decision may look at. Token counts are estimates made from sizes, not from reading."""

    request_id: str
    endpoint: Endpoint
    model: str
    stream: bool
    prompt_tokens: int
    #: The caller's cap on output tokens; None: the caller named none.
    output_tokens_most: int | None = None
    n: int = 1
    has_tools: bool = False
    has_images: bool = False
    has_audio: bool = False
    json_schema: bool = False
    data_class: str = ""
    deadline_s: float | None = None
    priority: int = 0
    tags: tuple[str, ...] = ()
    caller: Caller


def names_for_conditions(facts: RequestFacts, *, at: datetime) -> Mapping[str, object]:
    """The names that a condition may use, as plain values: `request`, `caller`, `time`.

    `at` is the moment of the decision in the policy's timezone. Absent numbers are 0, as CEL has no null arithmetic.
    """
    caller = facts.caller
    return {
        "request": {
            "model": facts.model,
            "endpoint": facts.endpoint.value,
            "stream": facts.stream,
            "prompt_tokens": facts.prompt_tokens,
            "output_tokens_most": facts.output_tokens_most or 0,
            "n": facts.n,
            "has_tools": facts.has_tools,
            "has_images": facts.has_images,
            "has_audio": facts.has_audio,
            "json_schema": facts.json_schema,
            "data_class": facts.data_class,
            "deadline_s": facts.deadline_s or 0.0,
            "priority": facts.priority,
            "tags": list(facts.tags),
        },
        "caller": {
            "key": caller.key_id,
            "team": caller.team,
            "cost_centre": caller.cost_centre,
            "tags": list(caller.tags),
        },
        "time": {
            "hour": at.hour,
            "minute": at.minute,
            "weekday": at.isoweekday(),
            "date": at.date().isoformat(),
        },
    }
