"""What was measured of one attempt."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from app.domain.quick import quickly_made
from app.domain.usage import Usage, UsageSource


class Outcome(StrEnum):
    """How a request or an attempt ended.

    complete: the answer ended as the target meant it to. abandoned: the caller hung up. broken: the target failed it.
    refused: nothing was dispatched, or the target refused before any work. interrupted: the gateway died with it.
    """

    COMPLETE = "complete"
    ABANDONED = "abandoned"
    BROKEN = "broken"
    REFUSED = "refused"
    INTERRUPTED = "interrupted"


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Times in seconds since dispatch; None where the thing never happened.

    ttft_s: first event with content − dispatch. tpot_s: (last content − first content) / (output tokens − 1), undefined
    below 2 tokens (aiperf and vLLM's benchmark define it so). For answers that are not streamed both are None.
    """

    usage: Usage
    usage_source: UsageSource
    ttft_s: float | None
    tpot_s: float | None
    duration_s: float
    content_events: int
    flags: tuple[str, ...] = ()
