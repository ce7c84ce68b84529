"""Attempts in Postgres, to be held against a seller's export: read on one snapshot, with what adjustments added."""
# ruff: noqa: S608  (what is put together here is our own columns)

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from app.domain.ledger.billing import OurCall
from app.domain.money import Nanodollars
from app.domain.pricing.rate_card import RateCard
from app.domain.target import Hosting
from app.domain.usage import Usage, UsageSource
from app.ports.billing import BORDER, CalledTarget, CallsQuery
from app.storage.engine import Database

BATCH_MOST: Final = 2_000
#: The first batch waits until all attempts of the period are sorted: some seconds for millions of them.
READ_TIMEOUT_S: Final = 600.0

#: $1 and $2 the period, $3 and $4 the same with the border around it, $5 the targets. An attempt is in one of three
#: parts only: near the period; booked late for it; or corrected late for it.
_NEAR: Final = "a.at >= $3 and a.at < $4"
_LATE: Final = "a.booked_for >= $1 and a.booked_for < $2"
_CHOSEN: Final = f"""
    select a.* from attempt a where {_NEAR} and a.kind = 'settled' and a.target = any($5)
     union all
    select a.* from attempt a where {_LATE} and not ({_NEAR}) and a.kind = 'settled' and a.target = any($5)
     union all
    select a.*
      from (select distinct attempt_id, at from adjustment
             where booked_for >= $1 and booked_for < $2 and not (at >= $3 and at < $4) and target = any($5)
           ) as corrected
      join attempt a on a.attempt_id = corrected.attempt_id and a.at = corrected.at and a.kind = 'settled'
     where ({_LATE}) is not true
"""
#: A credit is an adjustment that says nothing of prices or tokens.
_IS_CREDIT: Final = """rate_card_digest = '' and prompt_tokens = 0 and cached_tokens = 0 and output_tokens = 0
                      and reasoning_tokens = 0"""
_CALLS: Final = f"""
select a.attempt_id, a.provider_request_id, a.target, a.upstream_model, a.started_at, a.duration_s, a.usage_source,
       coalesce(a.booked_for, a.at) as counts_at, a.charge as own_charge, a.charge + added.amount as charge,
       added.credit, added.days, added.amounts,
       a.prompt_tokens + added.prompt as prompt, a.cached_tokens + added.cached as cached,
       a.output_tokens + added.output as output, a.reasoning_tokens + added.reasoning as reasoning,
       a.cache_write_tokens as cache_write, a.cache_write_1h_tokens as cache_write_1h,
       a.audio_prompt_tokens as audio_prompt, a.audio_output_tokens as audio_output, a.searches, a.service_tier,
       coalesce(added.digest, a.rate_card_digest) as digest, a.price_prompt, a.price_cached_prompt, a.price_output
  from ({_CHOSEN}) as a
 cross join lateral (
           select coalesce(sum(prompt_tokens), 0)::bigint as prompt, coalesce(sum(cached_tokens), 0)::bigint as cached,
                  coalesce(sum(output_tokens), 0)::bigint as output,
                  coalesce(sum(reasoning_tokens), 0)::bigint as reasoning,
                  coalesce(sum(amount), 0)::bigint as amount,
                  coalesce(sum(amount) filter (where {_IS_CREDIT}), 0)::bigint as credit,
                  (array_agg(rate_card_digest order by booked_at desc, entry_id desc)
                      filter (where rate_card_digest <> ''))[1] as digest,
                  array_agg((booked_for at time zone 'UTC')::date order by adjustment_id)
                      filter (where booked_for >= $1 and booked_for < $2) as days,
                  array_agg(amount order by adjustment_id)
                      filter (where booked_for >= $1 and booked_for < $2) as amounts
             from adjustment where adjustment.attempt_id = a.attempt_id
       ) as added
 order by a.attempt_id
"""
_TARGETS: Final = """
select a.target, a.hosting, a.target_kind, count(*) as attempts
  from attempt a
 where (a.at >= $1 and a.at < $2 or a.booked_for >= $1 and a.booked_for < $2) and a.kind = 'settled'
 group by a.target, a.hosting, a.target_kind
 order by a.target, a.target_kind, a.hosting
"""


class PostgresCallBook:
    """`ports.billing.CallBook` over a migrated database."""

    def __init__(self, database: Database, *, batch_most: int = BATCH_MOST) -> None:
        self._database = database
        self._batch_most = batch_most

    async def targets(self, *, since: datetime, until: datetime) -> Sequence[CalledTarget]:
        """Every attempt of the period is looked at, but not sorted."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_TARGETS, since, until, timeout=READ_TIMEOUT_S)
        return tuple(
            CalledTarget(
                name=row["target"],
                hosting=Hosting(row["hosting"]),
                kind=row["target_kind"],
                attempts=row["attempts"],
            )
            for row in rows
        )

    async def calls(self, query: CallsQuery) -> AsyncIterator[Sequence[OurCall]]:
        """Through a cursor, so that no more than a batch is here at a time."""
        prices: dict[tuple[object, ...], RateCard] = {}
        around = (query.since - BORDER, query.until + BORDER)
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            cursor = await connection.cursor(
                _CALLS, query.since, query.until, *around, list(query.targets), timeout=READ_TIMEOUT_S
            )
            while rows := await cursor.fetch(self._batch_most, timeout=READ_TIMEOUT_S):
                yield tuple(_call(row, query, prices) for row in rows)


def _call(row: Mapping[str, Any], query: CallsQuery, prices: dict[tuple[object, ...], RateCard]) -> OurCall:
    return OurCall(
        attempt_id=row["attempt_id"],
        provider_request_id=row["provider_request_id"],
        target=row["target"],
        model=row["upstream_model"],
        began_at=row["started_at"],
        ended_at=row["started_at"] + timedelta(seconds=row["duration_s"]),
        usage=Usage(
            prompt=row["prompt"],
            output=row["output"],
            cached=row["cached"],
            reasoning=row["reasoning"],
            cache_write=row["cache_write"],
            cache_write_1h=row["cache_write_1h"],
            audio_prompt=row["audio_prompt"],
            audio_output=row["audio_output"],
            searches=row["searches"],
            tier=row["service_tier"],
        ),
        usage_source=UsageSource(row["usage_source"]),
        price=_price(row, prices),
        charge=Nanodollars(row["charge"]),
        credit=Nanodollars(row["credit"]),
        counted=_counted(row, query),
    )


def _price(row: Mapping[str, Any], prices: dict[tuple[object, ...], RateCard]) -> RateCard:
    """One card for all rows that say the same: most of a month goes by a few."""
    key = (row["digest"], row["price_prompt"], row["price_cached_prompt"], row["price_output"])
    if key not in prices:
        digest, prompt, cached_prompt, output = key
        prices[key] = RateCard(prompt=prompt, cached_prompt=cached_prompt, output=output, origin="row", digest=digest)
    return prices[key]


def _counted(row: Mapping[str, Any], query: CallsQuery) -> tuple[tuple[date, Nanodollars], ...]:
    amounts: dict[date, int] = {}
    counts_at = row["counts_at"]
    if query.since <= counts_at < query.until:
        amounts[counts_at.astimezone(UTC).date()] = row["own_charge"]
    for day, amount in zip(row["days"] or (), row["amounts"] or (), strict=True):
        amounts[day] = amounts.get(day, 0) + amount
    return tuple((day, Nanodollars(amounts[day])) for day in sorted(amounts))
