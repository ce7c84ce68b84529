"""Months in Postgres: sealed in a moment, added up without standing in anybody's way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from app.domain.ledger.month import ClosedMonth, Month, MonthPart, MonthsSeen
from app.storage.budget_statements import LOCK_ALONE
from app.storage.engine import Database
from app.storage.month_statements import AS_EVER, CLOSED, IS_SEALED, KEEP, PARTS, SEAL, SEEN, UNFINISHED

#: Every row of a month is read and hashed: some minutes for millions of them.
READ_TIMEOUT_S: Final = 3600.0


class PostgresMonthBook:
    """`ports.ledger.MonthBook` over a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def seen(self) -> MonthsSeen:
        """Which months are sealed and closed, by the database's clock, from one snapshot."""
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            (row,) = await connection.fetch(SEEN)
            closed = await connection.fetch(CLOSED)
        return MonthsSeen(
            now=row["now"],
            first=None if row["first"] is None else Month.of(row["first"]),
            sealed=tuple(Month.of(day) for day in row["sealed"]),
            closed=tuple(_closed(each) for each in closed),
        )

    async def unfinished(self, month: Month) -> int:
        """How many processes keep money of budgets of that month."""
        async with self._database.connection() as connection:
            return int(await connection.fetchval(UNFINISHED, month.begin, month.end))

    async def seal(self, month: Month, *, by: str) -> bool:
        """Waits for bookings under way; those that come after find the month sealed."""
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(LOCK_ALONE)
            await connection.execute(SEAL, month.first_day, month.end, by)
            return bool(await connection.fetchval(IS_SEALED, month.first_day))

    async def parts(self, month: Month) -> Sequence[MonthPart]:
        """All parts from one snapshot."""
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            for setting in AS_EVER:
                await connection.execute(setting)
            return tuple(
                [
                    _part(name, row)
                    for name, statement in PARTS.items()
                    for row in await connection.fetch(statement, month.begin, month.end, timeout=READ_TIMEOUT_S)
                ]
            )

    async def close(self, closed: ClosedMonth) -> None:
        """Keep it. Raises RowsRefused for a month that is closed already, or not sealed."""
        parts = [
            {"name": part.name, "rows": part.rows, "amount": part.amount, "digest": part.digest}
            for part in closed.parts
        ]
        async with self._database.connection() as connection:
            await connection.execute(KEEP, closed.month.first_day, json.dumps(parts), closed.previous, closed.digest)


def _part(name: str, row: Any) -> MonthPart:
    return MonthPart(name=name, rows=row["rows"], amount=row["amount"], digest=row["digest"])


def _closed(row: Any) -> ClosedMonth:
    return ClosedMonth(
        month=Month.of(row["month"]),
        parts=tuple(MonthPart(**part) for part in json.loads(row["parts"])),
        previous=row["previous"],
        digest=row["digest"],
    )
