"""A request that may come twice is answered once: claimed in the books before anything is done for it, and what was
answered is kept there before its caller sees the end of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from app.domain.errors import LedgerUnavailable, RepeatReason, RepeatRefused
from app.domain.repeat import ANSWER_MOST_BYTES, Repeat, sealed, unsealed
from app.ports import BooksAway, RowsRefused
from app.ports.repeats import Earlier, Mine, RepeatBook, RepeatClaim

#: Postgres has so long for an answer while a caller waits.
ANSWER_WITHIN_S: Final = 2.0
#: Beyond its total time a request may need so long for its receipt and for a caller who reads slowly; its claim ends
#: after that, whatever has become of its process.
LEASE_BEYOND_S: Final = 120.0
#: Between two tries to write down what could not be.
AGAIN_S: Final = 0.5
#: Between two sweeps of one process, on average.
SWEEP_EVERY_S: Final = 60.0
#: How long the last words may take at a stop.
END_WITHIN_S: Final = 3.0

Pause = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What was answered before, to the request `original`."""

    original: str
    answer: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A request that is ours to answer. `interrupted`: the one that was to be answered before, and was not."""

    claim: RepeatClaim
    repeat: Repeat
    interrupted: str | None


class Repeats:
    """The idempotency keys of one process. What it could not tell the books in time it tells them later."""

    def __init__(self, book: RepeatBook, *, holder: str, answer_within_s: float = ANSWER_WITHIN_S) -> None:
        self._book = book
        self._holder = holder
        self._answer_within_s = answer_within_s
        #: By request id; at most as many as were under way when the books went away.
        self._owed: dict[str, Callable[[], Awaitable[object]]] = {}

    async def claim(self, repeat: Repeat, *, key_id: str, request_id: str, total_s: float) -> Claimed | Replay:
        """Ours, or what was answered before. `total_s`: the request's own bound.

        Raises RepeatRefused when another has it, asked something else, or left no answer; LedgerUnavailable when the
        books cannot tell: then nobody knows whether it came before, and nothing is done.
        """
        claim = RepeatClaim(key_id=key_id, name=repeat.name, fingerprint=repeat.fingerprint, request_id=request_id)
        try:
            async with asyncio.timeout(self._answer_within_s):
                found = await self._book.claim(claim, holder=self._holder, for_s=total_s + LEASE_BEYOND_S)
        except (BooksAway, TimeoutError) as fault:
            self._owed[request_id] = lambda: self._book.release(claim)  # it may have been claimed all the same
            raise LedgerUnavailable(
                "Postgres does not answer, so it is not known whether this Idempotency-Key came before, and nothing "
                "was done: try again in a moment"
            ) from fault
        if isinstance(found, Mine):
            return Claimed(claim=claim, repeat=repeat, interrupted=found.interrupted)
        return _replay(found, repeat)

    async def keep_answer(self, claimed: Claimed, answer: bytes | None) -> None:
        """It was answered so; None, or too much: the answer is not kept. Returns within a bound."""
        claim = claimed.claim
        kept = None
        if answer is not None and len(answer) <= ANSWER_MOST_BYTES:
            kept = sealed(answer, claimed.repeat, request_id=claim.request_id)
        await self._tell(claim, lambda: self._book.finish(claim, answer=kept))

    async def release(self, claimed: Claimed) -> None:
        """Nothing was done for it: it may come again. Returns within a bound."""
        claim = claimed.claim
        await self._tell(claim, lambda: self._book.release(claim))

    async def keep(self, *, jitter: Callable[[], float], pause: Pause = asyncio.sleep) -> None:
        """For ever: what the books were not told is told again; what is over is forgotten."""
        until_sweep_s = SWEEP_EVERY_S * jitter()
        while True:
            await pause(AGAIN_S)
            await self._tell_what_is_owed()
            until_sweep_s -= AGAIN_S
            if until_sweep_s <= 0:
                until_sweep_s = SWEEP_EVERY_S * (0.5 + jitter())
                with contextlib.suppress(BooksAway):
                    await self._book.sweep()

    async def end(self) -> None:
        """At a stop, when no request runs any more: a last try."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_WITHIN_S):
                await self._tell_what_is_owed()

    @property
    def owed(self) -> int:
        """What the books do not know yet."""
        return len(self._owed)

    async def _tell(self, claim: RepeatClaim, tell: Callable[[], Awaitable[object]]) -> None:
        self._owed[claim.request_id] = tell
        with contextlib.suppress(BooksAway, TimeoutError):
            async with asyncio.timeout(self._answer_within_s):
                await self._pay(claim.request_id)

    async def _tell_what_is_owed(self) -> None:
        for request_id in list(self._owed):
            try:
                await self._pay(request_id)
            except BooksAway:
                return

    async def _pay(self, request_id: str) -> None:
        tell = self._owed.get(request_id)
        if tell is None:
            return
        with contextlib.suppress(RowsRefused):  # said once is enough: its claim ends by itself
            await tell()
        self._owed.pop(request_id, None)


def _replay(earlier: Earlier, repeat: Repeat) -> Replay:
    original = earlier.request_id
    if earlier.fingerprint != repeat.fingerprint:
        raise RepeatRefused(
            f"this Idempotency-Key came with another body before, in the request {original}: send a key of its own "
            "with each request, and the same bytes when it is repeated",
            reason=RepeatReason.ANOTHER_REQUEST,
            original=original,
        )
    if earlier.is_running:
        raise RepeatRefused(
            f"a request with this Idempotency-Key is being answered, {original}: try again in a moment",
            reason=RepeatReason.IN_PROGRESS,
            original=original,
        )
    answer = None
    if earlier.answer is not None:
        answer = unsealed(earlier.answer, repeat, request_id=original)
    if answer is None:
        raise RepeatRefused(
            f"a request with this Idempotency-Key was answered before, {original}, and its answer was not kept (its "
            "receipt is at /v1/receipts): send another key to ask, and pay, again",
            reason=RepeatReason.NOT_KEPT,
            original=original,
        )
    return Replay(original=original, answer=answer)
