"""From the outbox into the books: in batches, again and again until they are booked, and nothing is ever dropped."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from app.domain.errors import LedgerUnavailable
from app.ports import BooksAway, LedgerBook, Outbox, RowsRefused, Shipment

#: Most receipts in one statement.
BATCH_MOST: Final = 500
#: What arrives within this time of a first receipt travels with it.
LINGER_S: Final = 0.15
BACK_OFF_FIRST_S: Final = 0.1
BACK_OFF_MOST_S: Final = 5.0

Pause = Callable[[float], Awaitable[None]]


class ShippingWatcher(Protocol):
    """Is told how shipping goes. Never raises, never waits."""

    def shipped(self, count: int) -> None:
        """Postgres answered; so many receipts were not there before."""
        ...

    def books_away(self) -> None: ...


async def ship(
    outbox: Outbox,
    book: LedgerBook,
    *,
    listener: ShippingWatcher,
    jitter: Callable[[], float],
    most: int = BATCH_MOST,
    pause: Pause = asyncio.sleep,
) -> None:
    """Book what the outbox holds, for ever, until cancelled. Cancelled while a batch is under way, the batch may or
    may not be booked; it is still in the outbox, and booking it again changes nothing.

    `jitter` gives a number in [0, 1) that spreads the processes' attempts while Postgres is away.
    """
    carrier = _Carrier(outbox, book, listener=listener, jitter=jitter, pause=pause)
    while True:
        await outbox.wait_for_more()
        await pause(LINGER_S)
        while (shipment := await carrier.next_shipment(most=most)) is not None:
            await carrier.deliver(shipment)
            if len(shipment.receipts) < most // 10:
                break


async def drain(
    outbox: Outbox,
    book: LedgerBook,
    *,
    within_s: float,
    listener: ShippingWatcher,
    most: int = BATCH_MOST,
    pause: Pause = asyncio.sleep,
) -> None:
    """At the end: book what is there, for at most `within_s`. What is left then waits in the outbox."""
    carrier = _Carrier(outbox, book, listener=listener, jitter=lambda: 0.0, pause=pause)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while (shipment := await carrier.next_shipment(most=most)) is not None:
                await carrier.deliver(shipment)


class _Carrier:
    """Brings one shipment after the other home, however long Postgres is away."""

    def __init__(
        self,
        outbox: Outbox,
        book: LedgerBook,
        *,
        listener: ShippingWatcher,
        jitter: Callable[[], float],
        pause: Pause,
    ) -> None:
        self._outbox = outbox
        self._book = book
        self._listener = listener
        self._jitter = jitter
        self._pause = pause
        self._failures = 0

    async def next_shipment(self, *, most: int) -> Shipment | None:
        """As the outbox gives it; waits while it cannot."""
        while True:
            try:
                return await self._outbox.next_shipment(most=most)
            except LedgerUnavailable:
                await self._back_off()

    async def deliver(self, shipment: Shipment) -> None:
        """Returns when every receipt is booked or in quarantine. A batch that Postgres refuses is halved until the
        receipt at fault stands alone; what was booked or put aside on the way is not sent again."""
        parts: deque[Sequence[bytes]] = deque([shipment.receipts])
        while parts:
            try:
                refused = await self._book_part(parts[0])
            except BooksAway:
                self._listener.books_away()
                await self._back_off()
                continue
            except LedgerUnavailable:
                await self._back_off()
                continue
            self._failures = 0
            part = parts.popleft()
            if refused:
                middle = len(part) // 2
                parts.extendleft((part[middle:], part[:middle]))
        self._outbox.shipped(shipment)

    async def _book_part(self, part: Sequence[bytes]) -> bool:
        """True when Postgres refuses it and it has to be halved."""
        try:
            inserted = await self._book.book(part)
        except RowsRefused as refusal:
            if len(part) > 1:
                return True
            self._outbox.quarantine(part[0], reason=str(refusal))
            return False
        self._listener.shipped(inserted)
        return False

    async def _back_off(self) -> None:
        longest_s = min(BACK_OFF_FIRST_S * 2**self._failures, BACK_OFF_MOST_S)
        self._failures = min(self._failures + 1, 10)
        await self._pause(longest_s * (1 - self._jitter() / 2))
