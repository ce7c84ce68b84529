"""Facts: what is known of a request before anything is decided. Never its text."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from app.domain.caller import Caller
from app.domain.quick import quickly_made


class Endpoint(StrEnum):
    """The surface the caller used."""

    CHAT = "chat"
    COMPLETIONS = "completions"


@quickly_made
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
    #: Names the conversation without telling anything of it; empty: the caller named none.
    session: str = ""
    #: Of `prompt_tokens`, those of a conversation's earlier turns: what a warm prefix cache may already hold.
    prefix_tokens: int = 0
    caller: Caller
