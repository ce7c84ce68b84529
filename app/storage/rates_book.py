"""Measured speeds of self-hosted targets in Postgres: every measurement is kept, the newest counts."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.pricing.self_host import MeasuredRates
from app.storage.engine import Database

_REMEMBER = """
insert into measured_rates (target, prefill_tokens_per_s, decode_tokens_per_s, model, engine_version,
                            measured_at_s, concurrency)
values ($1, $2, $3, $4, $5, $6, $7)
"""
_NEWEST = """
select * from (
    select distinct on (target) * from measured_rates order by target, measured_at_s desc, id desc
) as newest
 order by measured_at_s desc, target
"""


class PostgresRatesBook:
    """`ports.RatesBook` over a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def remember(self, rates: MeasuredRates) -> None:
        """Keep a measurement, whatever was measured before."""
        async with self._database.connection() as connection:
            await connection.execute(
                _REMEMBER,
                rates.target,
                rates.prefill_tokens_per_s,
                rates.decode_tokens_per_s,
                rates.model,
                rates.engine_version,
                rates.measured_at_s,
                rates.concurrency,
            )

    async def newest(self) -> Sequence[MeasuredRates]:
        """The newest measurement of each target, the newest of all first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_NEWEST)
        return tuple(
            MeasuredRates(
                target=row["target"],
                prefill_tokens_per_s=row["prefill_tokens_per_s"],
                decode_tokens_per_s=row["decode_tokens_per_s"],
                model=row["model"],
                engine_version=row["engine_version"],
                measured_at_s=row["measured_at_s"],
                concurrency=row["concurrency"],
            )
            for row in rows
        )
