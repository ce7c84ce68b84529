"""Tokens of one attempt, and how well we know them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class UsageSource(StrEnum):
    """Where a token count comes from, best first."""

    PROVIDER_FINAL = "provider_final"
    PROVIDER_PARTIAL = "provider_partial"
    GATEWAY_ESTIMATE = "gateway_estimate"
    CHECKPOINT = "checkpoint"
    NOTHING_SENT = "nothing_sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts as OpenAI counts them: `cached` is part of `prompt`, `reasoning` is part of `output`."""

    prompt: int
    output: int
    cached: int = 0
    reasoning: int = 0

    @property
    def computed_prompt(self) -> int:
        """Prompt tokens that had to be computed: all but the cached ones."""
        return self.prompt - self.cached

    def believable(self) -> tuple[Usage, bool]:
        """The usage with impossible counts clamped, and whether anything had to be clamped.

        Nothing is negative, cached ≤ prompt, reasoning ≤ output. A clamped row is flagged `usage_suspect`.
        """
        if 0 <= self.cached <= self.prompt and 0 <= self.reasoning <= self.output:
            return self, False
        prompt, output = max(self.prompt, 0), max(self.output, 0)
        cached = min(max(self.cached, 0), prompt)
        reasoning = min(max(self.reasoning, 0), output)
        clamped = Usage(prompt=prompt, output=output, cached=cached, reasoning=reasoning)
        return clamped, True


NOTHING = Usage(prompt=0, output=0)
