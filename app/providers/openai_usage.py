"""Usage as OpenAI-compatible servers spell it, read without trust."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from app.domain.usage import Usage

#: No request has more; a larger number is a lie that would not even fit the books.
MOST_TOKENS: Final = 2**31 - 1

#: Words for the tier that everybody gets, who says nothing of one.
_STANDARD: Final = frozenset({"default", "standard", "auto"})
_TIER_CHARS_MOST: Final = 40
#: The members of a usage that has no parts: prompt, completion and total.
_COUNTS_ALONE: Final = 3
_EMPTY: Final[Mapping[str, object]] = {}
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
    if len(said) <= _COUNTS_ALONE and "total_tokens" in said:
        return Usage(prompt=prompt, output=output, tier=_tier(service_tier))
    of_prompt, of_output = _inside(said, "prompt_tokens_details"), _inside(said, "completion_tokens_details")
    # OpenAI's place for each part first, then DeepSeek's, SGLang's or Anthropic's; the first that is a count stands.
    return Usage(
        prompt=prompt,
        output=output,
        cached=_first(of_prompt.get("cached_tokens"), said.get("prompt_cache_hit_tokens")),
        reasoning=_first(of_output.get("reasoning_tokens"), said.get("reasoning_tokens")),
        cache_write=_first(of_prompt.get("cache_write_tokens"), said.get("cache_creation_input_tokens")),
        cache_write_1h=_first(_inside(said, "cache_creation").get("ephemeral_1h_input_tokens")),
        audio_prompt=_first(of_prompt.get("audio_tokens")),
        audio_output=_first(of_output.get("audio_tokens")),
        searches=_first(_inside(said, "server_tool_use").get("web_search_requests"), said.get("num_search_queries")),
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


def _inside(said: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = said.get(name)
    return found if isinstance(found, dict) else _EMPTY


def _first(*said: object) -> int:
    for each in said:
        if each is not None and (count := _count(each)) is not None:
            return count
    return 0


def _count(said: object) -> int | None:
    if type(said) is float and said.is_integer():
        said = int(said)
    if type(said) is not int:  # a bool is none either
        return None
    return said if -MOST_TOKENS <= said <= MOST_TOKENS else None
