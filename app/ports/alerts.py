"""The protocols of alerts: an outbox in Postgres, and whoever takes what leaves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from app.domain.alert import Alert, AlertState

#: So long after the end of its period an alert is remembered.
KEPT_DAYS: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertClaimed:
    """An alert that this process is to send now. `attempt` counts from 1, attempts that were cut off included."""

    alert: Alert
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertKept:
    """An alert and what became of it so far."""

    alert: Alert
    state: AlertState
    attempts: int
    #: Why the last attempt failed; None: none has.
    last_error: str | None
    #: When it is sent next; None: never again.
    next_at: datetime | None
    delivered_at: datetime | None


class AlertBook(Protocol):
    """The outbox of alerts in Postgres, by the database's clock. Raises BooksAway."""

    async def fire(self, alerts: Sequence[Alert]) -> Sequence[str]:
        """Keep those that are new, to be sent; the ids of these. New is an alert of whose account, period, kind and
        threshold there is none with the same amount or a larger one: a budget that was raised is warned of again.

        Alerts of periods that ended more than `KEPT_DAYS` before now are forgotten meanwhile."""
        ...

    async def claim(self, *, most: int, for_s: float, fresh_s: float) -> Sequence[AlertClaimed]:
        """Take those that are due, oldest first; nobody else gets them for `for_s`. What was raised longer than
        `fresh_s` ago and never delivered is dead from now on."""
        ...

    async def delivered(self, claimed: AlertClaimed) -> None:
        """It has arrived. Nothing changes when somebody claimed it anew meanwhile, and that attempt decided."""
        ...

    async def failed(self, claimed: AlertClaimed, *, error: str, again_in_s: float | None) -> None:
        """It has not: again after so long, or never, with None. Nothing changes when it was claimed anew meanwhile."""
        ...

    async def latest(self, *, most: int) -> Sequence[AlertKept]:
        """The newest first, by when they were raised."""
        ...


class NotTaken(Exception):
    """A receiver did not take an alert. The message says why, in half a sentence, without any address or secret."""


class AlertDoor(Protocol):
    """The way out to the receiver of alerts."""

    async def send(self, body: bytes, *, headers: Mapping[str, str]) -> None:
        """Returns once the receiver has answered 2xx, and within a bound. Raises NotTaken."""
        ...
