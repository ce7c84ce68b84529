"""An adjustment: what is added to a booked attempt because it turned out otherwise. No row is ever edited."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.money import Nanodollars
from app.domain.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """One correction of one attempt. The same id is booked once, however often it is sent."""

    #: The correction's own name, made from what it corrects and why, such as `price/2026-11-24/ATTEMPT`.
    adjustment_id: str
    attempt_id: str
    #: Why, in words that finance can read.
    reason: str
    #: Who asked for it.
    by: str
    #: What is added to the charge; below zero where too much was booked.
    amount: Nanodollars
    #: Tokens that are added; each below zero where too many were booked.
    prompt_added: int = 0
    cached_added: int = 0
    output_added: int = 0
    reasoning_added: int = 0
    #: The rate card that the new charge goes by; empty where prices have nothing to do with it.
    rate_card_digest: str = ""


def tokens_added(*, before: Usage, after: Usage) -> dict[str, int]:
    """The `…_added` fields of an adjustment that turns one usage into another."""
    return {
        "prompt_added": after.prompt - before.prompt,
        "cached_added": after.cached - before.cached,
        "output_added": after.output - before.output,
        "reasoning_added": after.reasoning - before.reasoning,
    }
