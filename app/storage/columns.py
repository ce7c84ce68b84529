"""Names and bounds of columns that statements share with `tables`: without the library in which tables are written, so
that a gateway, which only speaks SQL, never loads it."""

from __future__ import annotations

from typing import Final

#: More than this is no count of tokens and no charge of one attempt (ten million dollars); such a row is refused,
#: before it can make the sums of its hour overflow.
TOKENS_MOST: Final = 10**12
CHARGE_MOST: Final = 10**16

#: The additive figures of a roll-up, named as in `domain.ledger.report.Sums`; decode time in whole microseconds.
SUMS: Final = (
    "requests",
    "attempts",
    "complete",
    "abandoned",
    "broken",
    "refused",
    "interrupted",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "reasoning_tokens",
    "estimated_attempts",
    "charge",
    "decode_tokens",
    "decode_us",
)

#: What an adjustment adds to a row of the roll-ups, beside money; each may be negative.
TOKENS_ADDED: Final = ("prompt_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")

#: Of a fitted line, in the order of `domain.capacity.line.Line`; and of both lines of a service curve.
LINE: Final = ("weight", "x", "y", "xx", "xy")
LINES: Final = tuple(f"{line}_{part}" for line in ("steps", "prefill") for part in LINE)
