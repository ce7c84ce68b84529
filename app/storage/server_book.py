"""Which Postgres server leads: its system and its timeline, a number that is another after each promotion."""

from __future__ import annotations

from typing import Final

from app.storage.engine import Database

#: The first eight digits of a WAL file's name are its timeline; that of the last checkpoint would come minutes late.
_SERVER: Final = """
select (select system_identifier from pg_control_system())::text || '/'
       || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)
"""


class PostgresServerBook:
    """`ports.servers.ServerBook`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def server(self) -> str:
        """System and timeline."""
        async with self._database.connection() as connection:
            return str(await connection.fetchval(_SERVER))
