"""Corrections in Postgres: one statement books them with postings and roll-ups, the same transaction moves budgets."""
# ruff: noqa: S608  (what is put together here is our own columns)

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from app.domain.ledger.adjustment import Adjustment
from app.domain.money import Nanodollars
from app.ports import RowsRefused
from app.storage.budget_statements import ADJUST, SHARED_LOCK
from app.storage.columns import SUMS, TOKENS_ADDED
from app.storage.engine import Database
from app.storage.ledger_statements import entered

_ADDED = (*TOKENS_ADDED, "charge")
_FIGURES = ", ".join(f"sum({name})" if name in _ADDED else "0" for name in SUMS)
_KEPT = ", ".join(f"{name} = kept.{name} + excluded.{name}" for name in _ADDED)


def _rolled_up(*, table: str, key: str) -> str:
    return f"""
    insert into {table} as kept ({key}, {", ".join(SUMS)})
    select {key}, {_FIGURES} from counted group by {key} order by {key}
    on conflict ({key}) do update set {_KEPT}
"""


#: $1 the corrections as one JSON array → the attempts that are not there, and what budgets are to be told.
_BOOK = f"""
with given as materialized (
    select distinct on (adjustment_id) *
      from jsonb_to_recordset($1::text::jsonb) as one (
               adjustment_id text, attempt_id text, reason text, by text, rate_card_digest text, amount bigint,
               prompt_tokens bigint, cached_tokens bigint, output_tokens bigint, reasoning_tokens bigint
           )
     order by adjustment_id
),
missing as (
    select attempt_id from given
     where not exists (select 1 from attempt where attempt.attempt_id = given.attempt_id and kind = 'settled')
),
found as materialized (
    select given.*, a.request_id, a.at, a.key_id, a.team, a.cost_centre, a.model, a.target, a.hosting,
           r.shadow_of is not null as shadow, coalesce(r.facts #> '{{caller,tags}}', '[]') as tags,
           case when coalesce(a.booked_for, a.at) < (select sealed_until())
                then greatest(statement_timestamp(), (select sealed_until()))
                else coalesce(a.booked_for, a.at) end as booked_for
      from given
      join attempt a on a.attempt_id = given.attempt_id and a.kind = 'settled'
      join receipt r on r.request_id = a.request_id and r.at = a.at
     where not exists (select 1 from adjustment where adjustment.adjustment_id = given.adjustment_id)
),
fresh as materialized (
    select *, date_trunc('month', booked_for, 'UTC')::date as month from found
),
{entered(kind="adjustment", rows="fresh", amount="amount")},
inserted as (
    insert into adjustment (adjustment_id, attempt_id, request_id, at, key_id, team, cost_centre, model, target,
                            hosting, shadow, tags, reason, by, rate_card_digest, prompt_tokens, cached_tokens,
                            output_tokens, reasoning_tokens, amount, booked_for, entry_id)
    select adjustment_id, attempt_id, request_id, at, key_id, team, cost_centre, model, target,
           hosting, shadow, tags, reason, by, rate_card_digest, prompt_tokens, cached_tokens,
           output_tokens, reasoning_tokens, amount, booked_for, entry_id
      from fresh join entered using (month)
     order by adjustment_id
    returning *
),
counted as materialized (
    select date_trunc('hour', booked_for, 'UTC') as hour, (booked_for at time zone 'UTC')::date as day,
           key_id, team, cost_centre, model, target, hosting, shadow,
           prompt_tokens, cached_tokens, output_tokens, reasoning_tokens, amount as charge
      from inserted
),
by_hour as ({_rolled_up(table="usage_hour", key="hour, team, cost_centre, model, target, hosting, shadow")}),
by_key as ({_rolled_up(table="usage_day_key", key="day, key_id, team, cost_centre, model, target, hosting, shadow")})
select (select array_agg(attempt_id) from missing) as missing,
       (select count(*) from inserted) as booked,
       (select coalesce(jsonb_agg(jsonb_build_object(
                   'at', at, 'key_id', key_id, 'team', team, 'cost_centre', cost_centre, 'model', model,
                   'tags', tags, 'amount', amount
               )), '[]')::text from inserted) as told
"""
#: Two who book the same correction at once come one after the other: the second finds it booked.
_TURN = "select pg_advisory_xact_lock(hashtextextended('adjustments', 0))"
_OF = """
    select adjustment_id, attempt_id, reason, by, rate_card_digest, amount,
           prompt_tokens, cached_tokens, output_tokens, reasoning_tokens
      from adjustment where attempt_id = any($1::text[]) order by adjustment_id
"""


class PostgresAdjustmentBook:
    """`ports.ledger.AdjustmentBook` over a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def adjust(self, adjustments: Sequence[Adjustment]) -> int:
        """Book what is not there yet; how many. Of two with one id the first stands, whatever they say.

        Raises RowsRefused and books nothing when an attempt is not there. After BooksAway send them again.
        """
        if not adjustments:
            return 0
        given = json.dumps([_written(one) for one in _first_of_each(adjustments)])
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(_TURN)
            await connection.execute(SHARED_LOCK)
            (booked,) = await connection.fetch(_BOOK, given)
            if booked["missing"]:
                raise RowsRefused(
                    f"attempt {booked['missing'][0]} is not booked (of {len(booked['missing'])} such): "
                    "correct it when it is"
                )
            await connection.execute(ADJUST, booked["told"])
        return int(booked["booked"])

    async def of(self, attempt_ids: Collection[str]) -> Sequence[Adjustment]:
        """What is booked of these attempts, in the order of the corrections' ids."""
        if not attempt_ids:
            return ()
        async with self._database.connection() as connection:
            rows = await connection.fetch(_OF, list(attempt_ids))
        return tuple(_read(row) for row in rows)


def _first_of_each(adjustments: Sequence[Adjustment]) -> list[Adjustment]:
    first: dict[str, Adjustment] = {}
    for one in adjustments:
        first.setdefault(one.adjustment_id, one)
    return list(first.values())


def _read(row: Mapping[str, Any]) -> Adjustment:
    return Adjustment(
        adjustment_id=row["adjustment_id"],
        attempt_id=row["attempt_id"],
        reason=row["reason"],
        by=row["by"],
        amount=Nanodollars(row["amount"]),
        prompt_added=row["prompt_tokens"],
        cached_added=row["cached_tokens"],
        output_added=row["output_tokens"],
        reasoning_added=row["reasoning_tokens"],
        rate_card_digest=row["rate_card_digest"],
    )


def _written(one: Adjustment) -> dict[str, object]:
    return {
        "adjustment_id": one.adjustment_id,
        "attempt_id": one.attempt_id,
        "reason": one.reason,
        "by": one.by,
        "rate_card_digest": one.rate_card_digest,
        "amount": one.amount,
        "prompt_tokens": one.prompt_added,
        "cached_tokens": one.cached_added,
        "output_tokens": one.output_added,
        "reasoning_tokens": one.reasoning_added,
    }
