"""Months of the ledger, made ahead; the default partition is only a net.

A month whose first rows already fell into the net stays there: reports do not notice, and rows that must never
change are not moved either.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import asyncpg

from app.storage.engine import Connection, Database

PARTITIONED = ("receipt", "attempt")
#: This month and the next two.
MONTHS_AHEAD = 3
#: Any number that nobody else uses in this database.
TURN = 0x6272_6B65_0001
#: A new partition waits this long for a report that runs, and holds up booking meanwhile.
LOCK_TIMEOUT = "2s"


async def ensure_partitions(database: Database, *, now: datetime) -> tuple[str, ...]:
    """Make what is missing for this month and the next two; the names of the partitions made.

    Call it daily. Makes nothing while another process is at it. Raises BooksAway, also when a long-running report
    stands in the way.
    """
    async with database.connection() as connection:
        return await make_partitions(connection, now=now, wait=False)


async def make_partitions(connection: Connection, *, now: datetime, wait: bool) -> tuple[str, ...]:
    """The same on a connection; `wait`: for a turn that another process has, rather than leave it to that one."""
    async with connection.transaction():
        if wait:
            await connection.execute("select pg_advisory_xact_lock($1)", TURN)
        elif not await connection.fetchval("select pg_try_advisory_xact_lock($1)", TURN):
            return ()
        await connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
        months = list(_months(now.astimezone(UTC)))
        return tuple(
            [
                f"{table}_{begin:%Y_%m}"
                for table in PARTITIONED
                for begin, end in months
                if await _made(connection, table=table, begin=begin, end=end)
            ]
        )


def _months(now: datetime) -> Iterator[tuple[datetime, datetime]]:
    begin = datetime(now.year, now.month, 1, tzinfo=UTC)
    for _ in range(MONTHS_AHEAD):
        end = datetime(begin.year + begin.month // 12, begin.month % 12 + 1, 1, tzinfo=UTC)
        yield begin, end
        begin = end


async def _made(connection: Connection, *, table: str, begin: datetime, end: datetime) -> bool:
    """Every name here is one of ours and every bound a number, so that nothing in these statements needs quoting."""
    name = f"{table}_{begin:%Y_%m}"
    if await connection.fetchval("select to_regclass($1) is not null", name):
        return False
    try:
        async with connection.transaction():
            await connection.execute(
                f"create table {name} partition of {table} "
                f"for values from ('{begin:%Y-%m-%d} 00:00:00+00') to ('{end:%Y-%m-%d} 00:00:00+00')"
            )
            await connection.execute(
                f"create trigger {name}_no_truncate before truncate on {name} execute function refuse_change()"
            )
    except asyncpg.CheckViolationError:  # the net holds rows of that month
        return False
    return True
