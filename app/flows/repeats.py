"""A request that may come twice is answered once: claimed in the books before anything is done for it, and what was
answered is kept there before its caller sees the end of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from app.domain.errors import LedgerUnavailable, RepeatReason, RepeatRefused
from app.domain.repeat import ANSWER_MOST_BYTES, Repeat, sealed, unsealed
from app.ports import BooksAway, RowsRefused
from app.ports.deadline import Within
from app.ports.repeats import Earlier, Mine, RepeatBook, RepeatClaim

#: Postgres has so long for an answer while a caller waits.
ANSWER_WITHIN_S: Final = 2.0
#: Beyond its total time a request may need so long for its receipt and for a caller who reads slowly; its claim ends
#: after that, whatever has become of its process.
LEASE_BEYOND_S: Final = 120.0
#: Between two tries to write down what could not be.
AGAIN_S: Final = 0.5
#: A claim that was sent and not answered may come to the books after its release did: so much later it is released
#: once more, and once more.
RELEASED_AGAIN_S: Final = (5.0, 30.0)
#: With so much that the books have to be told, no more is claimed.
OWED_MOST: Final = 10_000
#: Of answers that wait to be told; what comes on top is told without its answer.
OWED_MOST_BYTES: Final = 64 << 20
#: Between two sweeps of one process, on average.
SWEEP_EVERY_S: Final = 60.0
#: Rows that one statement forgets at the most: each may hold 1 MiB, and it has 10 s.
SWEPT_MOST: Final = 200
#: How long the last words may take at a stop.
END_WITHIN_S: Final = 3.0

Pause = Callable[[float], Awaitable[None]]

_UNKNOWN: Final = (
    "Postgres does not answer, so it is not known whether this Idempotency-Key came before, and nothing was done: try "
    "again in a moment"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What was answered before, to the request `original`."""

    original: str
    answer: bytes


@dataclass(slots=True, kw_only=True)
class Claimed:
    """A request that is ours to answer. `interrupted`: the one that was to be answered before, and was not."""

    claim: RepeatClaim
    repeat: Repeat
    interrupted: str | None
    #: What became of it is said once: two texts under one seal would tell about each other.
    is_told: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    """What the books are to know of a claim: how it was answered, or that nothing was done for it."""

    claim: RepeatClaim
    releases: bool = False
    answer: bytes | None = None
    #: Not before this round.
    due: int = 0
    #: A release that finds nothing is repeated after these seconds, one after the other.
    again_s: tuple[float, ...] = ()


class Repeats:
    """The idempotency keys of one process. What it could not tell the books in time it tells them later."""

    def __init__(
        self,
        book: RepeatBook,
        *,
        holder: str,
        answer_within_s: float = ANSWER_WITHIN_S,
        owed_most: int = OWED_MOST,
        owed_most_bytes: int = OWED_MOST_BYTES,
    ) -> None:
        self._book = book
        self._holder = holder
        self._answer_within_s = answer_within_s
        self._owed_most = owed_most
        self._owed_most_bytes = owed_most_bytes
        #: By request id; at most `owed_most`, and one for each request that was under way when these were reached.
        self._owed: dict[str, _Word] = {}
        self._owed_bytes = 0
        #: Of `keep`, each `AGAIN_S` after the one before.
        self._round = 0

    async def claim(self, repeat: Repeat, *, key_id: str, request_id: str, total_s: float) -> Claimed | Replay:
        """Ours, or what was answered before. `total_s`: the request's own bound.

        Raises RepeatRefused when another has it, asked something else, or left no answer; LedgerUnavailable when the
        books cannot tell: then nobody knows whether it came before, and nothing is done.
        """
        if len(self._owed) >= self._owed_most:
            raise LedgerUnavailable(_UNKNOWN)
        claim = RepeatClaim(key_id=key_id, name=repeat.name, fingerprint=repeat.fingerprint, request_id=request_id)
        sent: list[bool] = []
        found: Mine | Earlier | None = None
        try:
            async with Within(self._answer_within_s):
                found = await self._book.claim(
                    claim,
                    holder=self._holder,
                    for_s=total_s + LEASE_BEYOND_S,
                    on_sent=lambda: sent.append(True),
                )
        except (BooksAway, TimeoutError) as fault:
            raise LedgerUnavailable(_UNKNOWN) from fault
        finally:
            if found is None and sent:  # it may have been claimed all the same, or may be yet
                self._owe(_Word(claim=claim, releases=True, again_s=RELEASED_AGAIN_S))
        if isinstance(found, Mine):
            return Claimed(claim=claim, repeat=repeat, interrupted=found.interrupted)
        return _replay(found, repeat)

    async def keep_answer(self, claimed: Claimed, answer: bytes | None) -> None:
        """It was answered so; None, or too much: the answer is not kept. Returns within a bound, and does nothing when
        the books were, or are to be, told already what became of it."""
        if claimed.is_told:
            return
        claimed.is_told = True
        kept = None
        if answer is not None and len(answer) <= ANSWER_MOST_BYTES:
            kept = sealed(answer, claimed.repeat, request_id=claimed.claim.request_id)
        await self._tell(_Word(claim=claimed.claim, answer=kept))

    async def release(self, claimed: Claimed) -> None:
        """Nothing was done for it: it may come again. Returns within a bound, and does nothing as above."""
        if claimed.is_told:
            return
        claimed.is_told = True
        await self._tell(_Word(claim=claimed.claim, releases=True))

    async def keep(
        self, *, jitter: Callable[[], float], notice: Callable[[str], None], pause: Pause = asyncio.sleep
    ) -> None:
        """For ever: what the books were not told is told again; what is over is forgotten. `notice` gets a sentence
        when that fails."""
        until_sweep_s = SWEEP_EVERY_S * jitter()
        while True:
            await pause(AGAIN_S)
            self._round += 1
            await self._tell_what_is_due()
            until_sweep_s -= AGAIN_S
            if until_sweep_s <= 0:
                until_sweep_s = SWEEP_EVERY_S * (0.5 + jitter())
                await self._sweep(notice)

    async def end(self) -> None:
        """At a stop, when no request runs any more: a last try."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_WITHIN_S):
                await self._tell_what_is_due(is_last=True)

    @property
    def owed(self) -> int:
        """Of how many claims the books do not know yet what became of them."""
        return len(self._owed)

    @property
    def owed_bytes(self) -> int:
        """Of answers that wait to be told."""
        return self._owed_bytes

    async def _tell(self, word: _Word) -> None:
        is_told = False
        try:
            with contextlib.suppress(BooksAway, TimeoutError):
                async with Within(self._answer_within_s):
                    await self._say(word)
                    is_told = True
        finally:
            if not is_told:
                self._owe(word)

    async def _tell_what_is_due(self, *, is_last: bool = False) -> None:
        for word in list(self._owed.values()):
            if word.due > self._round and not is_last:
                continue
            try:
                later = await self._say(word)
            except BooksAway:
                self._owe(self._forget(word))  # the next time another is tried first
                return
            self._forget(word)
            if later is not None and not is_last:
                self._owe(later)

    async def _say(self, word: _Word) -> _Word | None:
        """Tell the books; what has to be said later once more. Raises BooksAway."""
        try:
            if not word.releases:
                await self._book.finish(word.claim, answer=word.answer)
                return None
            is_done = await self._book.release(word.claim)
        except RowsRefused:  # said once is enough: its claim ends by itself
            return None
        if is_done or not word.again_s:
            return None
        wait_s, *rest_s = word.again_s
        return replace(word, due=self._round + round(wait_s / AGAIN_S), again_s=tuple(rest_s))

    def _owe(self, word: _Word) -> None:
        size = len(word.answer or b"")
        if size and (len(self._owed) >= self._owed_most or self._owed_bytes + size > self._owed_most_bytes):
            word, size = replace(word, answer=None), 0
        self._owed[word.claim.request_id] = word
        self._owed_bytes += size

    def _forget(self, word: _Word) -> _Word:
        del self._owed[word.claim.request_id]
        self._owed_bytes -= len(word.answer or b"")
        return word

    async def _sweep(self, notice: Callable[[str], None]) -> None:
        """A little at a time, as long as there is something; what the books have to be told goes in between."""
        try:
            while await self._book.sweep(most=SWEPT_MOST) >= SWEPT_MOST:
                await self._tell_what_is_due()
                await asyncio.sleep(0)
        except BooksAway as fault:
            notice(f"idempotency keys over a day old could not be forgotten, which is tried again in a minute: {fault}")


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
