"""Virtual keys in Postgres: who they stand for and how to know them again, never the keys themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.domain.caller import Caller
from app.ports import KeyRecord
from app.storage.engine import Database

_ADD = """
insert into virtual_key (key_id, name, digest, pepper_version, team, cost_centre, tags, models,
                         expires_at_s, created_at_s, revoked_at_s)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""
_ALL = "select * from virtual_key order by created_at_s, key_id"
_REVOKE = """
update virtual_key set revoked_at_s = $2 where key_id = $1 and revoked_at_s is null returning true
"""


class PostgresKeyBook:
    """`ports.KeyBook` over a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, record: KeyRecord) -> None:
        """Raises RowsRefused when a key of that id is there."""
        caller = record.caller
        async with self._database.connection() as connection:
            await connection.execute(
                _ADD,
                caller.key_id,
                record.name,
                record.digest,
                record.pepper_version,
                caller.team,
                caller.cost_centre,
                caller.tags,
                None if caller.models is None else sorted(caller.models),
                caller.expires_at_s,
                record.created_at_s,
                record.revoked_at_s,
            )

    async def all(self) -> Sequence[KeyRecord]:
        """Every key ever made, revoked and expired ones too, oldest first."""
        async with self._database.connection() as connection:
            return tuple(_record(row) for row in await connection.fetch(_ALL))

    async def revoke(self, key_id: str, *, at_s: float) -> bool:
        """False when there is no such key, or it was revoked already: the first revocation stands."""
        async with self._database.connection() as connection:
            return bool(await connection.fetchval(_REVOKE, key_id, at_s))


def _record(row: Mapping[str, Any]) -> KeyRecord:
    return KeyRecord(
        caller=Caller(
            key_id=row["key_id"],
            team=row["team"],
            cost_centre=row["cost_centre"],
            tags=tuple(row["tags"]),
            models=None if row["models"] is None else frozenset(row["models"]),
            expires_at_s=row["expires_at_s"],
        ),
        name=row["name"],
        digest=row["digest"],
        pepper_version=row["pepper_version"],
        created_at_s=row["created_at_s"],
        revoked_at_s=row["revoked_at_s"],
    )
