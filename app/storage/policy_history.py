"""The policy's revisions in Postgres: what was written, by whom, what became of it, and which one is pinned.

Texts are kept as JSON in a column that stores the characters it is given: a file that was refused for a zero byte is
kept with that byte. A trigger refuses every change of a revision but its first time in force.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from app.ports import Pin, Revision
from app.storage.engine import Database

_BEGINNING = re.compile(r"[0-9a-f]{4,16}")

#: A row that was inserted has no `xmax`; nothing comes back where a known one gains nothing.
_REMEMBER = """
insert into policy_revision as kept (digest, files, author, seen_at_s, in_force_at_s, findings)
values ($1, $2, $3, $4, $5, $6)
on conflict (digest) do update set in_force_at_s = least(kept.in_force_at_s, excluded.in_force_at_s)
 where excluded.in_force_at_s < kept.in_force_at_s
    or (excluded.in_force_at_s is not null and kept.in_force_at_s is null)
returning xmax = 0
"""
_FIND = """
select * from policy_revision where starts_with(digest, $1) order by digest limit 2
"""
_LATEST = """
select * from policy_revision order by seen_at_s desc, number desc limit $1
"""
_PIN = """
insert into policy_pin (digest, by, pinned_at_s)
select digest, $2, $3 from policy_revision where digest = $1
on conflict (single) do update set digest = excluded.digest, by = excluded.by, pinned_at_s = excluded.pinned_at_s
returning true
"""
_RELEASE = "delete from policy_pin returning true"
_PINNED = "select * from policy_pin"


class PostgresPolicyHistory:
    """`ports.PolicyHistory` over a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def remember(self, revision: Revision) -> bool:
        """Keep it; True when it was not known. A known one only gains `in_force_at_s`, and keeps the earliest."""
        async with self._database.connection() as connection:
            inserted = await connection.fetchval(
                _REMEMBER,
                revision.digest,
                json.dumps(dict(revision.files)),
                revision.author,
                revision.seen_at_s,
                revision.in_force_at_s,
                json.dumps(list(revision.findings)),
            )
        return inserted is True

    async def find(self, digest: str) -> Revision | None:
        """By its digest, or by a beginning of it of 4 digits or more that fits one revision only."""
        if _BEGINNING.fullmatch(digest) is None:
            return None
        async with self._database.connection() as connection:
            rows = await connection.fetch(_FIND, digest)
        return _revision(rows[0]) if len(rows) == 1 else None

    async def latest(self, *, most: int) -> Sequence[Revision]:
        """The newest first, by when they were first seen; of the same moment, the one remembered last."""
        async with self._database.connection() as connection:
            return tuple(_revision(row) for row in await connection.fetch(_LATEST, max(most, 0)))

    async def pin(self, pin: Pin) -> None:
        """It replaces an earlier pin. Raises KeyError for a digest that is not known."""
        async with self._database.connection() as connection:
            pinned = await connection.fetchval(_PIN, pin.digest, pin.by, pin.pinned_at_s)
        if pinned is None:
            raise KeyError(pin.digest)

    async def release(self) -> bool:
        """False when nothing was pinned."""
        async with self._database.connection() as connection:
            return bool(await connection.fetchval(_RELEASE))

    async def pinned(self) -> Pin | None:
        """The pin, if there is one."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_PINNED)
        return next((Pin(digest=row["digest"], by=row["by"], pinned_at_s=row["pinned_at_s"]) for row in rows), None)


def _revision(row: Mapping[str, Any]) -> Revision:
    return Revision(
        digest=row["digest"],
        files=json.loads(row["files"]),
        author=row["author"],
        seen_at_s=row["seen_at_s"],
        in_force_at_s=row["in_force_at_s"],
        findings=tuple(json.loads(row["findings"])),
    )
