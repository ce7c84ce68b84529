"""The outbox of alerts in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.domain.alert import Alert, AlertState
from app.ports import BooksAway
from app.ports.alerts import KEPT_DAYS, AlertClaimed, AlertKept


@dataclass(slots=True, kw_only=True)
class _Row:
    alert: Alert
    kept_at: datetime
    next_at: datetime
    state: AlertState = AlertState.WAITING
    attempts: int = 0
    last_error: str | None = None
    delivered_at: datetime | None = None

    def is_new(self, alert: Alert) -> bool:
        return _about(self.alert) != _about(alert) or self.alert.amount < alert.amount

    def is_due(self, now: datetime) -> bool:
        return self.state is AlertState.WAITING and self.next_at <= now


class MemoryAlertBook:
    """`ports.alerts.AlertBook`. `now_us` is the database's clock, which counts on with each call unless it is given;
    `away = True` takes it away."""

    def __init__(self, *, now_us: Callable[[], int] | None = None) -> None:
        self.away = False
        self.rows: list[_Row] = []
        self._now_us = now_us
        self._calls = 0

    async def fire(self, alerts: Sequence[Alert]) -> Sequence[str]:
        now = self._answer_or_be_away()
        if alerts:
            oldest = now - timedelta(days=KEPT_DAYS)
            self.rows = [row for row in self.rows if row.alert.end >= oldest]
        new = [alert for alert in alerts if all(row.is_new(alert) for row in self.rows)]
        self.rows += [_Row(alert=alert, kept_at=now, next_at=now) for alert in new]
        return tuple(alert.alert_id for alert in new)

    async def claim(self, *, most: int, for_s: float, fresh_s: float) -> Sequence[AlertClaimed]:
        now = self._answer_or_be_away()
        for row in self.rows:
            if row.is_due(now) and row.kept_at < now - timedelta(seconds=fresh_s):
                row.state = AlertState.DEAD
                row.last_error = row.last_error or "no webhook was set while it was new"
        due = sorted((row for row in self.rows if row.is_due(now)), key=lambda row: (row.kept_at, row.alert.alert_id))
        for row in due[:most]:
            row.attempts += 1
            row.next_at = now + timedelta(seconds=for_s)
        return tuple(AlertClaimed(alert=row.alert, attempt=row.attempts) for row in due[:most])

    async def delivered(self, claimed: AlertClaimed) -> None:
        now = self._answer_or_be_away()
        for row in self._of(claimed):
            row.state, row.delivered_at = AlertState.DELIVERED, now

    async def failed(self, claimed: AlertClaimed, *, error: str, again_in_s: float | None) -> None:
        now = self._answer_or_be_away()
        for row in self._of(claimed):
            row.last_error = error
            if again_in_s is None:
                row.state = AlertState.DEAD
            else:
                row.next_at = now + timedelta(seconds=again_in_s)

    async def latest(self, *, most: int) -> Sequence[AlertKept]:
        self._answer_or_be_away()
        newest = sorted(self.rows, key=lambda row: (row.kept_at, row.alert.alert_id), reverse=True)
        return tuple(
            AlertKept(
                alert=row.alert,
                state=row.state,
                attempts=row.attempts,
                last_error=row.last_error,
                next_at=row.next_at if row.state is AlertState.WAITING else None,
                delivered_at=row.delivered_at,
            )
            for row in newest[:most]
        )

    def _of(self, claimed: AlertClaimed) -> list[_Row]:
        return [
            row
            for row in self.rows
            if row.alert.alert_id == claimed.alert.alert_id
            and row.attempts == claimed.attempt
            and row.state is AlertState.WAITING
        ]

    def _answer_or_be_away(self) -> datetime:
        if self.away:
            raise BooksAway("the books are away: try again")
        self._calls += 1
        now_us = self._calls if self._now_us is None else self._now_us()
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=now_us)


def _about(alert: Alert) -> tuple[object, ...]:
    return alert.account, alert.begin, alert.kind, alert.threshold_ppm
