"""Limits by the minute, as options and as words."""

from __future__ import annotations

from typing import Annotated

import typer

from app.domain.limits import RateKind, RateLimits

RequestsPerMinute = Annotated[
    int | None, typer.Option("--requests-per-minute", help="At most so many requests in a minute, everywhere together.")
]
TokensPerMinute = Annotated[
    int | None, typer.Option("--tokens-per-minute", help="At most so many tokens in a minute, prompts and answers.")
]


def limits_view(limits: RateLimits) -> dict[str, object]:
    """Limits as plain values."""
    return {"requests_per_minute": limits.requests_per_minute, "tokens_per_minute": limits.tokens_per_minute}


def limits_text(limits: RateLimits) -> str:
    """Limits in words."""
    given = [f"{most} {kind} per minute" for kind in RateKind if (most := limits.of(kind)) is not None]
    return ", ".join(given) or "no limits"
