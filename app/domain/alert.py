"""What is told of a budget without being asked: that a part of it is spent, or that it will not last its period."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from app.domain.budget import Budget
from app.domain.money import Nanodollars, dollars, shown

WHOLE_PPM: Final = 1_000_000


class AlertKind(StrEnum):
    """spent: a part of the budget is gone. forecast: going on as so far, it will be gone before its period ends.
    test: somebody tries whether alerts arrive; no budget is meant."""

    SPENT = "spent"
    FORECAST = "forecast"
    TEST = "test"


class AlertState(StrEnum):
    """waiting: to be sent, now or later. delivered: its receiver said so. dead: given up, after all attempts or because
    its day was over."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert, as it stood when it was raised. Account, begin, kind and threshold say what it is about: of those
    that agree in all four there is one for each amount that is larger than the ones before."""

    #: The same at every attempt to send it, so that a receiver can tell a repetition.
    alert_id: str
    kind: AlertKind
    #: The part of the budget, in millionths, that is spent, or will be before the end.
    threshold_ppm: int
    #: The budget's name.
    budget: str
    account: str
    begin: datetime
    end: datetime
    amount: Nanodollars
    spent: Nanodollars
    #: When all of it will be spent, linear; None: not within the period, or too early to say.
    used_up_at: datetime | None
    raised_at: datetime


def alerts_due(budget: Budget, *, spent: int, used_up_at: datetime | None) -> Iterator[tuple[AlertKind, int]]:
    """Kind and threshold of every alert that so much spent calls for, whether or not it was raised before.

    Only a budget with `warn_at` raises any. A budget that is used up is no forecast any more.
    """
    for part_ppm in budget.warn_at_ppm:
        if spent * WHOLE_PPM >= budget.amount * part_ppm:
            yield AlertKind.SPENT, part_ppm
    if budget.warn_at_ppm and used_up_at is not None and spent < budget.amount:
        yield AlertKind.FORECAST, WHOLE_PPM


def alert_text(alert: Alert) -> str:
    """The alert as a sentence."""
    if alert.kind is AlertKind.TEST:
        return "this is a test: alerts of Breakeven's budgets arrive here"
    used = f"{100 * alert.spent / alert.amount:.1f}" if alert.amount else "100.0"
    said = (
        f'the budget "{alert.budget}" has spent ${shown(alert.spent)} of ${shown(alert.amount)} ({used} %) in the '
        f"period that ends {alert.end.isoformat()}"
    )
    if alert.kind is AlertKind.FORECAST and alert.used_up_at is not None:
        return f"{said}; at this pace it is used up {alert.used_up_at.isoformat(timespec='minutes')}"
    return f"{said}: {percent(alert.threshold_ppm)} % is passed"


def alert_view(alert: Alert) -> dict[str, object]:
    """The alert as JSON takes it: what is posted, and what commands print. Dollars are text, exact."""
    used_up_at = alert.used_up_at
    return {
        "id": alert.alert_id,
        "kind": alert.kind.value,
        "text": alert_text(alert),
        "budget": alert.budget,
        "threshold_percent": percent(alert.threshold_ppm),
        "usd": f"{dollars(alert.amount):f}",
        "spent_usd": f"{dollars(alert.spent):f}",
        "begin": alert.begin.isoformat(),
        "end": alert.end.isoformat(),
        "used_up_at": None if used_up_at is None else used_up_at.isoformat(),
        "raised_at": alert.raised_at.isoformat(),
    }


def signature(secret: str, *, timestamp_s: int, body: bytes) -> str:
    """HMAC-SHA256, in hexadecimal digits, over the timestamp in decimal digits, a full stop, and the body.

    A receiver makes the same of what it got and compares in constant time; a timestamp that is minutes old is a replay.
    """
    signed = b"%d.%s" % (timestamp_s, body)
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def percent(part_ppm: int) -> str:
    """A part in millionths, in percent, without zeros that say nothing."""
    whole, rest = divmod(part_ppm, 10_000)
    return f"{whole}.{rest:04d}".rstrip("0").rstrip(".")
