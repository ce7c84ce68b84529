"""Teams in Postgres."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.limits import RateLimits
from app.ports.keys import Team
from app.storage.engine import Database

_ADD = """
insert into team (name, cost_centre, requests_per_minute, tokens_per_minute, created_at_s)
values ($1, $2, $3, $4, $5)
"""
_ALL = 'select * from team order by name collate "C"'
_LIMIT = "update team set requests_per_minute = $2, tokens_per_minute = $3 where name = $1 returning true"


class PostgresTeamBook:
    """`ports.keys.TeamBook` over a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, team: Team) -> None:
        """Raises RowsRefused when a team of that name is there."""
        limits = team.limits
        async with self._database.connection() as connection:
            await connection.execute(
                _ADD,
                team.name,
                team.cost_centre,
                limits.requests_per_minute,
                limits.tokens_per_minute,
                team.created_at_s,
            )

    async def all(self) -> Sequence[Team]:
        """Every team, by name."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_ALL)
        return tuple(
            Team(
                name=row["name"],
                cost_centre=row["cost_centre"],
                created_at_s=row["created_at_s"],
                limits=RateLimits(
                    requests_per_minute=row["requests_per_minute"], tokens_per_minute=row["tokens_per_minute"]
                ),
            )
            for row in rows
        )

    async def limit(self, name: str, limits: RateLimits) -> bool:
        """These limits from now on. False: no such team."""
        async with self._database.connection() as connection:
            return bool(await connection.fetchval(_LIMIT, name, limits.requests_per_minute, limits.tokens_per_minute))
