"""Attempts in Postgres as they stand now: their rows, and what adjustments have added."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from app.domain.ledger.rerating import Rated
from app.domain.money import Nanodollars
from app.domain.usage import Usage
from app.ports.corrections import RatedQuery
from app.storage.engine import Database

BATCH_MOST = 1000
#: A batch of few among millions reads many of them.
READ_TIMEOUT_S = 120.0

#: $1 and $2 the period, $3 the target and $4 the model or null, $5 the last id of the batch before, $6 how many.
#: An adjustment that says nothing of prices or tokens (a credit, say) is no part of what the tokens cost.
_RATED = """
select a.attempt_id, a.target, a.upstream_model, a.started_at,
       a.prompt_tokens + added.prompt as prompt, a.cached_tokens + added.cached as cached,
       a.output_tokens + added.output as output, a.reasoning_tokens + added.reasoning as reasoning,
       a.cache_write_tokens as cache_write, a.cache_write_1h_tokens as cache_write_1h,
       a.audio_prompt_tokens as audio_prompt, a.audio_output_tokens as audio_output, a.searches, a.service_tier,
       coalesce(added.digest, a.rate_card_digest) as digest, a.charge + added.amount as charge, added.n
  from attempt a
 cross join lateral (
           select coalesce(sum(prompt_tokens), 0)::bigint as prompt, coalesce(sum(cached_tokens), 0)::bigint as cached,
                  coalesce(sum(output_tokens), 0)::bigint as output,
                  coalesce(sum(reasoning_tokens), 0)::bigint as reasoning,
                  coalesce(sum(amount) filter (
                      where rate_card_digest <> '' or prompt_tokens <> 0 or cached_tokens <> 0 or output_tokens <> 0
                         or reasoning_tokens <> 0
                  ), 0)::bigint as amount,
                  (array_agg(rate_card_digest order by booked_at desc, entry_id desc)
                      filter (where rate_card_digest <> ''))[1] as digest,
                  count(*) as n
             from adjustment where adjustment.attempt_id = a.attempt_id
       ) as added
 where a.at >= $1 and a.at < $2 and a.kind = 'settled'
   and ($3::text is null or a.target = $3) and ($4::text is null or a.model = $4)
   and a.attempt_id > $5
 order by a.attempt_id
 limit $6
"""


class PostgresRatedBook:
    """`ports.corrections.RatedBook` over a migrated database."""

    def __init__(self, database: Database, *, batch_most: int = BATCH_MOST) -> None:
        self._database = database
        self._batch_most = batch_most

    async def rated(self, query: RatedQuery) -> AsyncIterator[Sequence[Rated]]:
        """A batch at a time, by their ids; nothing is kept open between two of them."""
        last = ""
        while True:
            async with self._database.connection() as connection:
                rows = await connection.fetch(
                    _RATED,
                    query.since,
                    query.until,
                    query.target,
                    query.model,
                    last,
                    self._batch_most,
                    timeout=READ_TIMEOUT_S,
                )
            if rows:
                yield tuple(_rated(row) for row in rows)
            if len(rows) < self._batch_most:
                return
            last = rows[-1]["attempt_id"]


def _rated(row: Mapping[str, Any]) -> Rated:
    return Rated(
        attempt_id=row["attempt_id"],
        target=row["target"],
        upstream_model=row["upstream_model"],
        started_at=row["started_at"],
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
        rate_card_digest=row["digest"],
        charge=Nanodollars(row["charge"]),
        adjustments=row["n"],
    )
