"""Tokens of one attempt, and how well we know them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from app.domain.quick import quickly_made

#: Flags of counts that cannot be true. The first stands on every such attempt, the others say what was wrong.
USAGE_SUSPECT: Final = "usage_suspect"
USAGE_NEGATIVE: Final = "usage_negative"
USAGE_PART_OVER_WHOLE: Final = "usage_part_over_whole"
USAGE_OVER_CONTEXT: Final = "usage_over_context"
USAGE_OVER_CAP: Final = "usage_over_cap"


class UsageSource(StrEnum):
    """Where a token count comes from, best first.

    gateway_tokenizer: a tokenizer counted the text that was delivered; gateway_estimate: only its size is known.
    checkpoint: what the spool covered ahead of delivery. hold: nothing is known, so the most that could come stands.
    """

    PROVIDER_FINAL = "provider_final"
    PROVIDER_PARTIAL = "provider_partial"
    GATEWAY_TOKENIZER = "gateway_tokenizer"
    GATEWAY_ESTIMATE = "gateway_estimate"
    CHECKPOINT = "checkpoint"
    HOLD = "hold"
    NOTHING_SENT = "nothing_sent"


@quickly_made
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

    def believable(self, limits: UsageLimits | None = None) -> tuple[Usage, tuple[str, ...]]:
        """The usage with impossible counts clamped, and flags that say what was wrong; none: it is as reported.

        Nothing is negative, no part is larger than its whole, what was read from a cache was not written to it, and
        with `limits` nothing is larger than them. The first flag is `usage_suspect`.
        """
        if self._is_sound and (limits is None or limits.hold(self)):
            return self, ()
        flags = [USAGE_SUSPECT]
        if min(self._counts) < 0:
            flags.append(USAGE_NEGATIVE)
        usage = self._clamped(prompt=max(self.prompt, 0), output=max(self.output, 0))
        if usage._counts != tuple(max(count, 0) for count in self._counts):
            flags.append(USAGE_PART_OVER_WHOLE)
        if limits is not None and not limits.hold(usage):
            prompt, output = limits.within(usage)
            if prompt < usage.prompt:
                flags.append(USAGE_OVER_CONTEXT)
            if output < usage.output:
                flags.append(USAGE_OVER_CAP)
            usage = usage._clamped(prompt=prompt, output=output)
        return usage, tuple(flags)

    @property
    def _is_sound(self) -> bool:
        return (
            self.cached >= 0
            and 0 <= self.cache_write_1h <= self.cache_write
            and self.cached + self.cache_write <= self.prompt
            and 0 <= self.audio_prompt <= self.prompt
            and 0 <= self.reasoning <= self.output
            and 0 <= self.audio_output <= self.output
            and self.searches >= 0
        )

    @property
    def _counts(self) -> tuple[int, ...]:
        return (
            self.prompt,
            self.output,
            self.cached,
            self.reasoning,
            self.cache_write,
            self.cache_write_1h,
            self.audio_prompt,
            self.audio_output,
            self.searches,
        )

    def _clamped(self, *, prompt: int, output: int) -> Usage:
        """With these wholes, and every part within its own."""
        cached = _within(self.cached, prompt)
        written = _within(self.cache_write, prompt - cached)
        return Usage(
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


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class UsageLimits:
    """The most tokens that an attempt can have used; None: not known."""

    prompt_most: int | None = None
    output_most: int | None = None

    def hold(self, usage: Usage) -> bool:
        """Nothing is larger than it can be."""
        return (self.prompt_most is None or usage.prompt <= self._prompt_most_of(usage)) and (
            self.output_most is None or usage.output <= self.output_most
        )

    def within(self, usage: Usage) -> tuple[int, int]:
        """Prompt and output, no larger than they can be."""
        prompt = usage.prompt if self.prompt_most is None else min(usage.prompt, self._prompt_most_of(usage))
        return prompt, usage.output if self.output_most is None else min(usage.output, self.output_most)

    def _prompt_most_of(self, usage: Usage) -> int:
        # A seller's own search asks the model again with what it found, and the prompts add up.
        most = self.prompt_most or 0
        return most if usage.searches <= 0 else most * (1 + usage.searches)


def _within(part: int, whole: int) -> int:
    return min(max(part, 0), whole)


NOTHING = Usage(prompt=0, output=0)
