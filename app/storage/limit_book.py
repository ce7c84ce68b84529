"""Limits by the minute in Postgres: buckets that all processes take from, and what each process sent to targets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from app.ports.ledger import Compared, RateGranted, RateWanted, TargetSent
from app.storage.engine import Database

#: A process that was not heard of for so long serves no more.
SERVES_S: Final = 5.0
#: What it claimed counts for so long.
CLAIMS_S: Final = 60.0

#: $1 what is wanted, as JSON. The function stands in the migration `0007_keys`.
_TAKE = "select rate_take($1::text::jsonb)"
#: $1 the holder, $2 what it sent, as JSON, $3 and $4 how long a process serves and claims. From the same migration.
_COMPARE = "select rate_compare($1, $2::text::jsonb, $3, $4)"
_LEAVE = """
update rate_process
   set seen_at = least(seen_at, clock_timestamp() - $3::interval), claimed = $2::text::jsonb
 where holder = $1
"""


class PostgresLimitBook:
    """`ports.ledger.LimitBook` over a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, wanted: Sequence[RateWanted]) -> Sequence[RateGranted]:
        """Take from each bucket what it has, at most what is wanted; a negative amount gives back."""
        if not wanted:
            return ()
        asked = json.dumps(
            [
                {"place": place, "name": one.name, "per_minute": one.per_minute, "amount": one.amount}
                for place, one in enumerate(wanted)
            ]
        )
        async with self._database.connection() as connection:
            answers = {answer["place"]: answer for answer in json.loads(await connection.fetchval(_TAKE, asked))}
        return tuple(
            RateGranted(
                name=one.name,
                amount=answers[place]["given"],
                left=answers[place]["left"],
                full_in_s=float(answers[place]["full_in_s"]),
            )
            for place, one in enumerate(wanted)
        )

    async def compare(self, *, holder: str, sent: Mapping[str, TargetSent]) -> Compared:
        """Say what this process sent, and claim its part of what nobody else claims."""
        told = {
            target: {
                "requests": one.requests,
                "tokens": one.tokens,
                "requests_most": one.requests_per_minute,
                "tokens_most": one.tokens_per_minute,
            }
            for target, one in sent.items()
        }
        async with self._database.connection() as connection:
            answer = json.loads(
                await connection.fetchval(
                    _COMPARE, holder, json.dumps(told), timedelta(seconds=SERVES_S), timedelta(seconds=CLAIMS_S)
                )
            )
        return Compared(
            processes=answer["processes"],
            place=answer["place"],
            rooms={target: (rooms[0], rooms[1]) for target, rooms in answer["rooms"].items()},
        )

    async def leave(self, *, holder: str, sent: Mapping[str, TargetSent]) -> None:
        """That process serves no more, and claims nothing beyond what it sent."""
        claimed = json.dumps({target: (one.requests, one.tokens) for target, one in sent.items()})
        async with self._database.connection() as connection:
            await connection.execute(_LEAVE, holder, claimed, timedelta(seconds=SERVES_S))
