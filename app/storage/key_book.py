"""Virtual keys in Postgres: who they stand for and how to know them again, never the keys themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.domain.caller import Caller
from app.domain.limits import RateLimits
from app.ports import KeyRecord
from app.storage.engine import Connection, Database

_ADD = """
insert into virtual_key (key_id, name, digest, pepper_version, team, cost_centre, tags, models,
                         expires_at_s, created_at_s, revoked_at_s, requests_per_minute, tokens_per_minute,
                         lineage, successor, last_used_at_s)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
"""
_ALL = "select * from virtual_key order by created_at_s, key_id"
_REVOKE = """
update virtual_key set revoked_at_s = $2 where key_id = $1 and revoked_at_s is null returning true
"""
_MAY_BE_FOLLOWED = """
select true from virtual_key where key_id = $1 and revoked_at_s is null and successor is null for update
"""
_FOLLOWED = """
update virtual_key set successor = $2, expires_at_s = least(expires_at_s, $3) where key_id = $1
"""
_LIMIT = """
with found as (select coalesce(lineage, key_id) as root from virtual_key where key_id = $1)
update virtual_key set requests_per_minute = $2, tokens_per_minute = $3
 where coalesce(lineage, key_id) = (select root from found)
returning true
"""
#: In the order of the ids, so that two processes that write at once never wait in a circle.
_USED = """
with told as materialized (
    select key_id, at_s
      from unnest($1::text[], $2::double precision[]) as told (key_id, at_s)
      join virtual_key using (key_id)
     where last_used_at_s is null or last_used_at_s < at_s
     order by key_id
       for update of virtual_key
)
update virtual_key k set last_used_at_s = greatest(k.last_used_at_s, told.at_s)
  from told where k.key_id = told.key_id
"""


class PostgresKeyBook:
    """`ports.KeyBook` over a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, record: KeyRecord) -> None:
        """Raises RowsRefused when a key of that id is there."""
        async with self._database.connection() as connection:
            await _add(connection, record)

    async def all(self) -> Sequence[KeyRecord]:
        """Every key ever made, revoked and expired ones too, oldest first."""
        async with self._database.connection() as connection:
            return tuple(_record(row) for row in await connection.fetch(_ALL))

    async def revoke(self, key_id: str, *, at_s: float) -> bool:
        """False when there is no such key, or it was revoked already: the first revocation stands."""
        async with self._database.connection() as connection:
            return bool(await connection.fetchval(_REVOKE, key_id, at_s))

    async def follow(self, key_id: str, *, by: KeyRecord, until_s: float) -> bool:
        """Add `by` as this key's successor and let this key expire; False when it cannot be followed."""
        async with self._database.connection() as connection, connection.transaction():
            if not await connection.fetchval(_MAY_BE_FOLLOWED, key_id):
                return False
            await _add(connection, by)
            await connection.execute(_FOLLOWED, key_id, by.caller.key_id, until_s)
            return True

    async def limit(self, key_id: str, limits: RateLimits) -> bool:
        """These limits from now on, for all keys of its lineage. False: no such key."""
        async with self._database.connection() as connection:
            return bool(await connection.fetchval(_LIMIT, key_id, limits.requests_per_minute, limits.tokens_per_minute))

    async def used(self, at_s: Mapping[str, float]) -> None:
        """When keys were used last; an earlier time changes nothing."""
        if at_s:
            async with self._database.connection() as connection:
                await connection.execute(_USED, list(at_s), list(at_s.values()))


async def _add(connection: Connection, record: KeyRecord) -> None:
    caller = record.caller
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
        record.limits.requests_per_minute,
        record.limits.tokens_per_minute,
        record.lineage,
        record.successor,
        record.last_used_at_s,
    )


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
        limits=RateLimits(requests_per_minute=row["requests_per_minute"], tokens_per_minute=row["tokens_per_minute"]),
        lineage=row["lineage"],
        successor=row["successor"],
        last_used_at_s=row["last_used_at_s"],
    )
