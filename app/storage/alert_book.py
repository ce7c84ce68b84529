"""The outbox of alerts in Postgres: any process raises them, any process sends them, and each is kept once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from app.domain.alert import Alert, AlertKind, AlertState
from app.domain.money import Nanodollars
from app.ports.alerts import KEPT_DAYS, AlertClaimed, AlertKept
from app.storage.engine import Database

#: "aler": raising goes one transaction after the other, so that no two see the same amounts missing.
_TURN: Final = "select pg_advisory_xact_lock(1634493810)"
#: $1 alerts as JSON.
_FIRE: Final = """
insert into alert (alert_id, account, begin_at, end_at, kind, threshold_ppm, amount, budget, spent, used_up_at,
                   raised_at)
select a.alert_id, a.account, a.begin_at, a.end_at, a.kind, a.threshold_ppm, a.amount, a.budget, a.spent, a.used_up_at,
       a.raised_at
  from jsonb_to_recordset($1::text::jsonb) as a (
           alert_id uuid, account text, begin_at timestamptz, end_at timestamptz, kind text, threshold_ppm integer,
           amount bigint, budget text, spent bigint, used_up_at timestamptz, raised_at timestamptz)
 where not exists (
           select from alert b
            where (b.account, b.begin_at, b.kind, b.threshold_ppm) = (a.account, a.begin_at, a.kind, a.threshold_ppm)
              and b.amount >= a.amount)
    on conflict do nothing
returning alert_id::text
"""
#: $1 for how long an alert is worth sending.
_TOO_OLD: Final = """
update alert
   set state = 'dead', last_error = coalesce(last_error, 'no webhook was set while it was new')
 where state = 'waiting' and next_at <= now() and kept_at < now() - $1::interval
"""
#: $1 for how long an alert is remembered after its period.
_FORGET: Final = "delete from alert where end_at < now() - $1::interval"
#: $1 how many at the most, $2 for how long nobody else gets them.
_CLAIM: Final = """
update alert
   set attempts = attempts + 1, next_at = now() + $2::interval
 where alert_id in (select alert_id from alert where state = 'waiting' and next_at <= now()
                     order by kept_at, alert_id limit $1 for update skip locked)
returning *
"""
#: $1 the alert, $2 the attempt.
_OF_THIS_ATTEMPT: Final = "where alert_id = $1::text::uuid and attempts = $2 and state = 'waiting'"
_DELIVERED: Final = f"update alert set state = 'delivered', delivered_at = now() {_OF_THIS_ATTEMPT}"  # noqa: S608
_AGAIN: Final = f"update alert set last_error = $3, next_at = now() + $4::interval {_OF_THIS_ATTEMPT}"  # noqa: S608
_DEAD: Final = f"update alert set last_error = $3, state = 'dead' {_OF_THIS_ATTEMPT}"  # noqa: S608
_LATEST: Final = "select * from alert order by kept_at desc, alert_id desc limit $1"


class PostgresAlertBook:
    """`ports.alerts.AlertBook` over a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fire(self, alerts: Sequence[Alert]) -> Sequence[str]:
        """Keep those that are new; the ids of these."""
        if not alerts:
            return ()
        rows = json.dumps([_row(alert) for alert in alerts])
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(_TURN)
            await connection.execute(_FORGET, timedelta(days=KEPT_DAYS))
            return tuple(row["alert_id"] for row in await connection.fetch(_FIRE, rows))

    async def claim(self, *, most: int, for_s: float, fresh_s: float) -> Sequence[AlertClaimed]:
        """Take those that are due; what has been waiting for longer than `fresh_s` is dead."""
        async with self._database.connection() as connection:
            await connection.execute(_TOO_OLD, timedelta(seconds=fresh_s))
            rows = await connection.fetch(_CLAIM, most, timedelta(seconds=for_s))
        oldest_first = sorted(rows, key=lambda row: (row["kept_at"], row["alert_id"]))
        return tuple(AlertClaimed(alert=_alert(row), attempt=row["attempts"]) for row in oldest_first)

    async def delivered(self, claimed: AlertClaimed) -> None:
        """It has arrived."""
        async with self._database.connection() as connection:
            await connection.execute(_DELIVERED, claimed.alert.alert_id, claimed.attempt)

    async def failed(self, claimed: AlertClaimed, *, error: str, again_in_s: float | None) -> None:
        """It has not: again after so long, or never, with None."""
        which = (claimed.alert.alert_id, claimed.attempt, error)
        async with self._database.connection() as connection:
            if again_in_s is None:
                await connection.execute(_DEAD, *which)
            else:
                await connection.execute(_AGAIN, *which, timedelta(seconds=again_in_s))

    async def latest(self, *, most: int) -> Sequence[AlertKept]:
        """The newest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_LATEST, most)
        return tuple(_kept(row) for row in rows)


def _row(alert: Alert) -> dict[str, object]:
    return {
        "alert_id": alert.alert_id,
        "account": alert.account,
        "begin_at": alert.begin.isoformat(),
        "end_at": alert.end.isoformat(),
        "kind": alert.kind.value,
        "threshold_ppm": alert.threshold_ppm,
        "amount": alert.amount,
        "budget": alert.budget,
        "spent": alert.spent,
        "used_up_at": None if alert.used_up_at is None else alert.used_up_at.isoformat(),
        "raised_at": alert.raised_at.isoformat(),
    }


def _alert(row: Any) -> Alert:
    return Alert(
        alert_id=str(row["alert_id"]),
        kind=AlertKind(row["kind"]),
        threshold_ppm=row["threshold_ppm"],
        budget=row["budget"],
        account=row["account"],
        begin=row["begin_at"],
        end=row["end_at"],
        amount=Nanodollars(row["amount"]),
        spent=Nanodollars(row["spent"]),
        used_up_at=row["used_up_at"],
        raised_at=row["raised_at"],
    )


def _kept(row: Any) -> AlertKept:
    state = AlertState(row["state"])
    return AlertKept(
        alert=_alert(row),
        state=state,
        attempts=row["attempts"],
        last_error=row["last_error"],
        next_at=row["next_at"] if state is AlertState.WAITING else None,
        delivered_at=row["delivered_at"],
    )
