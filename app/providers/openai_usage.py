"""Usage as OpenAI-compatible servers spell it, read without trust."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from app.domain.usage import Usage

#: No request has more; a larger number is a lie that would not even fit the books.
MOST_TOKENS: Final = 2**31 - 1

#: Where the parts of the counts stand, first match wins: OpenAI's place, then DeepSeek's and SGLang's.
_CACHED: Final = (("prompt_tokens_details", "cached_tokens"), ("prompt_cache_hit_tokens",))
_REASONING: Final = (("completion_tokens_details", "reasoning_tokens"), ("reasoning_tokens",))
_CACHE_WRITE: Final = (("prompt_tokens_details", "cache_write_tokens"), ("cache_creation_input_tokens",))
_CACHE_WRITE_1H: Final = (("cache_creation", "ephemeral_1h_input_tokens"),)
_AUDIO_PROMPT: Final = (("prompt_tokens_details", "audio_tokens"),)
_AUDIO_OUTPUT: Final = (("completion_tokens_details", "audio_tokens"),)
_SEARCHES: Final = (("server_tool_use", "web_search_requests"), ("num_search_queries",))

#: Words for the tier that everybody gets, who says nothing of one.
_STANDARD: Final = frozenset({"default", "standard", "auto"})
_TIER_CHARS_MOST: Final = 40
_NOBODY: Final = msgspec.Raw(b"null")


def usage_from(raw: bytes | msgspec.Raw, *, service_tier: msgspec.Raw = _NOBODY) -> Usage | None:
    """The usage that this JSON reports; None where it reports none that can be read as counts.

    `service_tier`: the member of that name beside it; the answer's tier is billed, whatever the request asked for.
    Negative counts and parts larger than the whole are kept as they are: Usage.believable clamps and flags them."""
    try:
        said = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    prompt, output = _count(said.get("prompt_tokens")), _count(said.get("completion_tokens"))
    if prompt is None or output is None:
        return None
    return Usage(
        prompt=prompt,
        output=output,
        cached=_part(said, _CACHED),
        reasoning=_part(said, _REASONING),
        cache_write=_part(said, _CACHE_WRITE),
        cache_write_1h=_part(said, _CACHE_WRITE_1H),
        audio_prompt=_part(said, _AUDIO_PROMPT),
        audio_output=_part(said, _AUDIO_OUTPUT),
        searches=_part(said, _SEARCHES),
        tier=_tier(service_tier),
    )


def _tier(raw: msgspec.Raw) -> str:
    """A tier of its own, in small letters; empty: the standard one, or none that can be read."""
    if raw == _NOBODY:
        return ""
    try:
        said = msgspec.json.decode(raw, type=str).strip().lower()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return "" if said in _STANDARD or len(said) > _TIER_CHARS_MOST else said


def _part(said: Mapping[str, object], places: tuple[tuple[str, ...], ...]) -> int:
    for place in places:
        found: object = said
        for name in place:
            found = found.get(name) if isinstance(found, dict) else None
        count = _count(found)
        if count is not None:
            return count
    return 0


def _count(said: object) -> int | None:
    if isinstance(said, float) and said.is_integer():
        said = int(said)
    if isinstance(said, bool) or not isinstance(said, int):
        return None
    return said if -MOST_TOKENS <= said <= MOST_TOKENS else None
