"""A process that serves has the time of the books: one clock for every period, every expiry and every order.

The machine's own clock may be wrong, or be set while the process serves. Postgres' clock says when leases, claims and
limits run out, so it says when keys expire and which period a request falls into as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from app.ports import BooksAway, Clock
from app.ports.servers import ServerClock

#: Between two looks: the process's clock does not jump, so only that of the books may.
LOOK_EVERY_S: Final = 5.0
#: Clocks of machines that are looked after agree better than this.
TOLERATED_US: Final = 250_000
#: Where a clock is still wrong after so many answers in a row, the next look goes on.
_LOOKS_MOST: Final = 3


class ClockToKeep(Clock, Protocol):
    """A clock that jumps only when it is put right."""

    def put_right(self, by_us: int) -> None:
        """So much later than it says, or earlier, is the time."""
        ...


async def set_by_books(book: ServerClock, clock: ClockToKeep, *, notice: Callable[[str], None]) -> None:
    """Put the clock right and `notice` that it was wrong. Raises BooksAway: it goes on as it did then.

    The books are asked again until it is, three times at most: one answer puts right only what is wrong for certain,
    which is less by as long as the question was on its way, the first connection included.
    """
    wrong_us = 0
    try:
        for _ in range(_LOOKS_MOST):
            asked_us = clock.unix_us()
            told_us = await book.now_us()
            off_us = _certainly_off_us(told_us, asked_us=asked_us, heard_us=clock.unix_us())
            if abs(off_us) <= TOLERATED_US:
                return
            clock.put_right(off_us)
            wrong_us += off_us
    finally:
        if wrong_us:
            notice(_told(wrong_us))


def _told(wrong_us: int) -> str:
    where = "behind" if wrong_us > 0 else "ahead of"
    return (
        f"the clock of this process was {abs(wrong_us) / 1e6:.1f} s {where} Postgres' own, and is put right: periods "
        "and expiries go by that; see that the machines of both keep their time, by NTP for instance"
    )


async def keep_time(
    book: ServerClock,
    clock: ClockToKeep,
    *,
    notice: Callable[[str], None],
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Look every few seconds, for ever, until cancelled. While Postgres is away the clock goes on by itself."""
    while True:
        await pause(LOOK_EVERY_S)
        with contextlib.suppress(BooksAway):
            await set_by_books(book, clock, notice=notice)


def _certainly_off_us(told_us: int, *, asked_us: int, heard_us: int) -> int:
    """How far the clock is behind, below zero ahead, at the least: the books told their time somewhere between the
    question and its answer, however long that was on its way."""
    if told_us < asked_us:
        return told_us - asked_us
    return max(told_us - heard_us, 0)
