"""Alerts go out: each at least once, signed, again after a failure, and not for ever.

A receiver may get one twice, when its answer was lost on the way: the id in `breakeven-alert` tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from app.domain.alert import Alert, AlertKind, alert_view, signature
from app.domain.money import ZERO
from app.ports import BooksAway, Clock, Ids
from app.ports.alerts import AlertBook, AlertClaimed, AlertDoor, AlertKept, NotTaken

#: On average, between two looks of one process for what is due.
LOOK_EVERY_S: Final = 2.0
#: Sent one after the other, in the order they were raised.
AT_ONCE_MOST: Final = 5
#: Nobody else sends what one process has claimed: longer than all of them may take.
CLAIM_S: Final = 120.0
#: An alert that was not delivered within a day is news no more.
FRESH_S: Final = 86_400.0
#: Attempts before an alert is given up; with the pauses below, more than six hours.
ATTEMPTS_MOST: Final = 16
PAUSE_FIRST_S: Final = 5.0
PAUSE_MOST_S: Final = 3600.0
_MICROSECONDS: Final = 1_000_000


class DeliveryListener(Protocol):
    """Is told how alerts fare. Never raises, never waits."""

    def alert_delivered(self, alert: Alert) -> None: ...

    def alert_failed(self, alert: Alert, *, error: str, is_last: bool) -> None:
        """One attempt failed; with `is_last` there will be no other."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Sends what the book has due. `secret` is asked at each attempt, so that a rotated one counts at once."""

    book: AlertBook
    door: AlertDoor
    secret: Callable[[], str | None]
    clock: Clock
    listener: DeliveryListener
    #: Gives a number in [0, 1) that spreads attempts and processes.
    jitter: Callable[[], float]

    async def deliver(self) -> int:
        """Send what is due, a few at the most; how many were. Raises BooksAway: what was sent and could not be written
        down is sent again later."""
        claimed = await self.book.claim(most=AT_ONCE_MOST, for_s=CLAIM_S, fresh_s=FRESH_S)
        for one in claimed:
            try:
                await send(one.alert, door=self.door, secret=self.secret(), at_us=self.clock.unix_us())
            except NotTaken as fault:
                await self._failed(one, error=str(fault))
            else:
                self.listener.alert_delivered(one.alert)
                await self.book.delivered(one)
        return len(claimed)

    async def keep(self, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Deliver for ever, until cancelled; while the books are away alerts wait."""
        while True:
            await pause(LOOK_EVERY_S * (0.5 + self.jitter()))
            with contextlib.suppress(BooksAway):
                await self.deliver()

    async def _failed(self, one: AlertClaimed, *, error: str) -> None:
        again_in_s = pause_s(one.attempt, jitter=self.jitter()) if one.attempt < ATTEMPTS_MOST else None
        self.listener.alert_failed(one.alert, error=error, is_last=again_in_s is None)
        await self.book.failed(one, error=error, again_in_s=again_in_s)


async def send(alert: Alert, *, door: AlertDoor, secret: str | None, at_us: int) -> None:
    """Post one alert, signed, once. Raises NotTaken."""
    if secret is None:
        raise NotTaken("its secret is not there: see what BREAKEVEN_ALERT_WEBHOOK_SECRET names")
    body = json.dumps(alert_view(alert), ensure_ascii=False, separators=(",", ":")).encode()
    timestamp_s = at_us // _MICROSECONDS
    await door.send(
        body,
        headers={
            "breakeven-alert": alert.alert_id,
            "breakeven-timestamp": str(timestamp_s),
            "breakeven-signature": f"v1={signature(secret, timestamp_s=timestamp_s, body=body)}",
        },
    )


def a_test(*, clock: Clock, ids: Ids) -> Alert:
    """An alert about nothing, to try the way."""
    at_us = clock.unix_us()
    at = datetime.fromtimestamp(at_us / _MICROSECONDS, UTC)
    return Alert(
        alert_id=ids.request_id(at_us=at_us),
        kind=AlertKind.TEST,
        threshold_ppm=0,
        budget="",
        account="",
        begin=at,
        end=at,
        amount=ZERO,
        spent=ZERO,
        used_up_at=None,
        raised_at=at,
    )


def pause_s(attempt: int, *, jitter: float) -> float:
    """Seconds until the next attempt after that many: doubled each time up to an hour, then less by up to a half."""
    doubled = PAUSE_FIRST_S * 2.0 ** min(attempt - 1, ATTEMPTS_MOST)
    return min(doubled, PAUSE_MOST_S) * (1 - jitter / 2)


def kept_view(kept: AlertKept) -> dict[str, object]:
    """An alert and its fate, as JSON takes it."""
    return {
        **alert_view(kept.alert),
        "state": kept.state.value,
        "attempts": kept.attempts,
        "last_error": kept.last_error,
        "next_at": None if kept.next_at is None else kept.next_at.isoformat(),
        "delivered_at": None if kept.delivered_at is None else kept.delivered_at.isoformat(),
    }
