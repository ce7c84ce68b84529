"""Idempotency keys in Postgres: of many processes one answers a request, and all know what was answered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

from app.domain.repeat import KEPT_S
from app.ports.repeats import Earlier, Mine, RepeatClaim
from app.storage.engine import Connection, Database

_KEPT: Final = timedelta(seconds=KEPT_S)
#: $1 key id, $2 name, $3 fingerprint, $4 request id, $5 holder, $6 for how long. No row: somebody has it.
_CLAIM: Final = """
insert into repeat as r (key_id, name, fingerprint, request_id, holder, expires_at)
values ($1, $2, $3, $4, $5, now() + $6::interval)
    on conflict (key_id, name) do update
   set fingerprint = excluded.fingerprint, request_id = excluded.request_id, holder = excluded.holder,
       claimed_at = now(), expires_at = excluded.expires_at, state = 'running', answer = null,
       interrupted = case when r.state = 'running' then r.request_id end
 where r.expires_at <= now()
returning interrupted::text as interrupted
"""
#: A statement of its own: the one before does not see what another process wrote while it waited.
_LOOK: Final = "select request_id::text, fingerprint, state, answer from repeat where (key_id, name) = ($1, $2)"
_OURS: Final = "where (key_id, name, request_id) = ($1, $2, $3) and state = 'running'"
#: $4 the answer or null, $5 how long it is remembered.
_FINISH: Final = f"""
update repeat
   set state = case when $4::bytea is null then 'told' else 'kept' end, answer = $4,
       expires_at = claimed_at + $5::interval
 {_OURS}
"""  # noqa: S608
_RELEASE: Final = f"delete from repeat {_OURS}"  # noqa: S608
#: $1 the holder, $2 how long what was answered is remembered. Only what really began has attempts; what was
#: interrupted is free from now on.
_CLOSE: Final = """
update repeat r
   set state = case when s.answered then 'told' else r.state end,
       expires_at = case when s.answered then r.claimed_at + $2::interval else now() end
  from (select i.key_id, i.name, i.request_id,
               exists (select from receipt t
                        where t.request_id = i.request_id and t.outcome <> 'interrupted' and t.attempts > 0) as answered
          from repeat i
         where i.holder = $1 and i.state = 'running') s
 where (r.key_id, r.name, r.request_id) = (s.key_id, s.name, s.request_id) and r.holder = $1 and r.state = 'running'
"""
#: $1 how long each is remembered, $2 how many at the most.
_SWEEP: Final = """
delete from repeat
 where ctid = any (array(select ctid from repeat
                          where claimed_at < now() - $1::interval and expires_at <= now()
                          order by claimed_at limit $2 for update skip locked))
"""


class PostgresRepeatBook:
    """`ports.repeats.RepeatBook` over a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(
        self, claim: RepeatClaim, *, holder: str, for_s: float, on_sent: Callable[[], None] = lambda: None
    ) -> Mine | Earlier:
        """Ours for so long, unless somebody has it."""
        wanted = (claim.key_id, claim.name, claim.fingerprint, UUID(claim.request_id), holder, timedelta(seconds=for_s))
        async with self._database.connection() as connection:
            on_sent()
            while True:
                if taken := await connection.fetch(_CLAIM, *wanted):
                    return Mine(interrupted=taken[0]["interrupted"])
                if (earlier := await _earlier(connection, claim)) is not None:
                    return earlier

    async def finish(self, claim: RepeatClaim, *, answer: bytes | None) -> bool:
        """It was answered."""
        return await self._change(_FINISH, claim, answer, _KEPT)

    async def release(self, claim: RepeatClaim) -> bool:
        """Nothing was done."""
        return await self._change(_RELEASE, claim)

    async def close(self, holder: str) -> None:
        """That process is gone, and all its receipts are booked."""
        async with self._database.connection() as connection:
            await connection.execute(_CLOSE, holder, _KEPT)

    async def sweep(self, *, most: int) -> int:
        """Forget some of what is over a day old and not running."""
        async with self._database.connection() as connection:
            return _rows(await connection.execute(_SWEEP, _KEPT, most))

    async def _change(self, statement: str, claim: RepeatClaim, *more: object) -> bool:
        async with self._database.connection() as connection:
            done = await connection.execute(statement, claim.key_id, claim.name, UUID(claim.request_id), *more)
        return _rows(done) == 1


async def _earlier(connection: Connection, claim: RepeatClaim) -> Earlier | None:
    """Who has it; None when it was let go in this moment."""
    for row in await connection.fetch(_LOOK, claim.key_id, claim.name):
        return Earlier(
            request_id=row["request_id"],
            fingerprint=row["fingerprint"],
            is_running=row["state"] == "running",
            answer=row["answer"],
        )
    return None


def _rows(done: str) -> int:
    """Of a command's tag, such as `UPDATE 1`."""
    return int(done.rpartition(" ")[2])
