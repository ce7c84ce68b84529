"""Which Postgres server leads: its system, its timeline, a number that is another after each promotion, and when it was
started, as two standbys that were promoted each for itself have system and number in common. And what time it has.
"""

from __future__ import annotations

from typing import Final

import asyncpg

from app.ports import BooksAway
from app.ports.servers import ServerUnnamed
from app.storage.engine import Database

#: The first eight digits of a WAL file's name are its timeline; that of the last checkpoint would come minutes late.
#: The start is in microseconds.
_SERVER: Final = """
select (select system_identifier from pg_control_system())::text || '/'
       || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) || '/'
       || (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint::text
"""
_NOW_US: Final = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint"
#: What a server says that lacks such a function, or does not let this user call it.
_UNNAMED: Final = (asyncpg.SyntaxOrAccessError, asyncpg.FeatureNotSupportedError)


class PostgresServerBook:
    """`ports.servers.ServerBook` and `ports.servers.ServerClock`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def server(self) -> str:
        """System, timeline and start."""
        try:
            async with self._database.connection() as connection:
                return str(await connection.fetchval(_SERVER))
        except BooksAway as fault:
            if isinstance(fault.__cause__, _UNNAMED):
                raise ServerUnnamed(str(fault.__cause__)) from fault
            raise

    async def now_us(self) -> int:
        """Its wall clock."""
        async with self._database.connection() as connection:
            return int(await connection.fetchval(_NOW_US))
