"""Tokens of one attempt, and how well we know them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class UsageSource(StrEnum):
    """Where a token count comes from, best first.

    gateway_tokenizer: a tokenizer counted the text that was delivered; gateway_estimate: only its size is known.
    hold: nothing is known, so the upper bound stands that was held before the dispatch.
    """

    PROVIDER_FINAL = "provider_final"
    PROVIDER_PARTIAL = "provider_partial"
    GATEWAY_TOKENIZER = "gateway_tokenizer"
    GATEWAY_ESTIMATE = "gateway_estimate"
    CHECKPOINT = "checkpoint"
    HOLD = "hold"
    NOTHING_SENT = "nothing_sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts as OpenAI counts them: parts are inside their wholes.

    `cached` (read from a prompt cache), `cache_write` (written to one) and `audio_prompt` are part of `prompt`, the
    first two apart from one another; `cache_write_1h`, what is kept for an hour, is part of `cache_write`; `reasoning`
    and `audio_output` are part of `output`. Sellers who count the parts beside the whole are read so, too.
    """

    prompt: int
    output: int
    cached: int = 0
    reasoning: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    audio_prompt: int = 0
    audio_output: int = 0
    #: Calls of the seller's own web search, billed by the call.
    searches: int = 0
    #: The service tier that the answer names ("flex", "priority", …); empty: none, or the standard one.
    tier: str = ""

    @property
    def computed_prompt(self) -> int:
        """Prompt tokens that had to be computed and were not written to a cache."""
        return self.prompt - self.cached - self.cache_write

    def believable(self) -> tuple[Usage, bool]:
        """The usage with impossible counts clamped, and whether anything had to be clamped.

        Nothing is negative, no part is larger than its whole, and what was read from a cache was not written to it. A
        clamped row is flagged `usage_suspect`.
        """
        if (
            self.cached >= 0
            and 0 <= self.cache_write_1h <= self.cache_write
            and self.cached + self.cache_write <= self.prompt
            and 0 <= self.audio_prompt <= self.prompt
            and 0 <= self.reasoning <= self.output
            and 0 <= self.audio_output <= self.output
            and self.searches >= 0
        ):
            return self, False
        prompt, output = max(self.prompt, 0), max(self.output, 0)
        cached = _within(self.cached, prompt)
        written = _within(self.cache_write, prompt - cached)
        clamped = Usage(
            prompt=prompt,
            output=output,
            cached=cached,
            reasoning=_within(self.reasoning, output),
            cache_write=written,
            cache_write_1h=_within(self.cache_write_1h, written),
            audio_prompt=_within(self.audio_prompt, prompt),
            audio_output=_within(self.audio_output, output),
            searches=max(self.searches, 0),
            tier=self.tier,
        )
        return clamped, True


def _within(part: int, whole: int) -> int:
    return min(max(part, 0), whole)


NOTHING = Usage(prompt=0, output=0)
