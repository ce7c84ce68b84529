"""The protocol of requests that may come twice: who answers one, and what was answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatClaim:
    """One request under an idempotency key. `name` and `fingerprint` are those of a `domain.repeat.Repeat`."""

    key_id: str
    name: bytes
    fingerprint: bytes
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mine:
    """Nobody else answers it now. `interrupted`: the request that was to, whose process or machine went away."""

    interrupted: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """Another request came first under this name. `answer`: as it was kept; None: it runs, or was not kept."""

    request_id: str
    fingerprint: bytes
    is_running: bool
    answer: bytes | None = None


class RepeatBook(Protocol):
    """What all processes know of idempotency keys, by the database's clock. Raises BooksAway from every call."""

    async def claim(
        self, claim: RepeatClaim, *, holder: str, for_s: float, on_sent: Callable[[], None] = lambda: None
    ) -> Mine | Earlier:
        """Ours for so long, unless somebody has it. Of many at once one gets it. `on_sent` is called right before the
        first word goes to the database: whoever fails, or is cancelled, without it has claimed nothing."""
        ...

    async def finish(self, claim: RepeatClaim, *, answer: bytes | None) -> bool:
        """It was answered; remembered until a day after it was claimed. False, and nothing changed, for a claim that
        is not ours (any more). Raises RowsRefused for an answer that is too large."""
        ...

    async def release(self, claim: RepeatClaim) -> bool:
        """Nothing was done: it may come again as if it had never come. False as above."""
        ...

    async def close(self, holder: str) -> None:
        """That process is gone, and all its receipts are booked. What it had answered is not asked again; what it was
        interrupted in may be, by a claim that is told so."""
        ...

    async def sweep(self, *, most: int) -> int:
        """Forget at most so many of what is over a day old and not running; how many."""
        ...
