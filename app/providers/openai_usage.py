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


def usage_from(raw: bytes | msgspec.Raw) -> Usage | None:
    """The usage that this JSON reports; None where it reports none that can be read as counts.

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
    return Usage(prompt=prompt, output=output, cached=_part(said, _CACHED), reasoning=_part(said, _REASONING))


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
