"""Sums over the books for cost reports: roll-ups for the lines, the attempts themselves for the proof.

Everything a report needs is read in one snapshot, so that a batch booked meanwhile is in all of it or in none.
"""
# ruff: noqa: S608  (what is put together here is our own columns)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.domain.ledger.report import SHADOW, CostLine, CostQuery, Dimension, Latency, Sums, checked
from app.domain.money import Nanodollars
from app.ports import Books
from app.storage.columns import SUMS
from app.storage.engine import Connection, Database
from app.storage.ledger_book import bucket_edges_ms
from app.storage.report_statements import LATENCY_AS_IT_WAS, LEDGER_CHARGE_AS_IT_WAS, USAGE_AS_IT_WAS

#: The proof reads every attempt of the period: some seconds for millions of them.
READ_TIMEOUT_S = 120.0

_DAY = "to_char(hour at time zone 'UTC', 'YYYY-MM-DD')"
_COLUMNS: Mapping[Dimension, str] = {
    Dimension.TEAM: "team",
    Dimension.COST_CENTRE: "cost_centre",
    Dimension.MODEL: "model",
    Dimension.TARGET: "target",
    Dimension.HOSTING: "hosting",
    Dimension.DAY: _DAY,
    Dimension.HOUR: "to_char(hour at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI\"Z\"')",
}
_COLUMNS_BY_KEY: Mapping[Dimension, str] = {
    **{dimension: column for dimension, column in _COLUMNS.items() if dimension is not Dimension.HOUR},
    Dimension.KEY: "key_id",
    Dimension.DAY: "to_char(day, 'YYYY-MM-DD')",
}

#: Answers by their hosting, copies for shadows all together.
_SPLIT = f"case when shadow then '{SHADOW}' else hosting end"

#: Every statement takes the period as $1 and $2 and the cost centres, or null for all, as $3.
_OF_HOURS = "hour >= $1 and hour < $2 and ($3::text[] is null or cost_centre = any($3))"
_OF_DAYS = """
    day >= ($1::timestamptz at time zone 'UTC')::date and day < ($2::timestamptz at time zone 'UTC')::date
    and ($3::text[] is null or cost_centre = any($3))
"""
_OF_COST_CENTRES = "($3::text[] is null or cost_centre = any($3))"
#: Attempts that count for their own moment, those that came too late for it, and adjustments.
_LEDGER_CHARGE = f"""
select (coalesce((select sum(charge) from attempt
                   where at >= $1 and at < $2 and booked_for is null and {_OF_COST_CENTRES}), 0)
      + coalesce((select sum(charge) from attempt
                   where booked_for >= $1 and booked_for < $2 and {_OF_COST_CENTRES}), 0)
      + coalesce((select sum(amount) from adjustment
                   where booked_for >= $1 and booked_for < $2 and {_OF_COST_CENTRES}), 0))::bigint
"""
_SUMMED = ", ".join(f"sum({name})::bigint as {name}" for name in SUMS)

Group = tuple[str, ...]
#: A group, and whether it is of copies for shadows.
Line = tuple[Group, bool]
Histograms = dict[Latency, dict[int, int]]


class PostgresReportBook:
    """`ports.ReportBook` over a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, query: CostQuery) -> Books:
        """Lines, split by hosting and the ledger's own sum, from one snapshot.

        Raises ValueError for what the books cannot answer exactly, saying what to ask instead.
        """
        checked(query)
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            by_key = Dimension.KEY in query.by
            names = _COLUMNS_BY_KEY if by_key else _COLUMNS
            lines = await _lines(connection, query, columns=[names[each] for each in query.by], by_key=by_key)
            split = await _lines(connection, query, columns=[_SPLIT], by_key=by_key)
            ledger_charge = _LEDGER_CHARGE if query.as_of is None else LEDGER_CHARGE_AS_IT_WAS
            charge = await connection.fetchval(ledger_charge, *_period(query), timeout=READ_TIMEOUT_S)
        return Books(
            lines=tuple(CostLine(group=group, sums=sums, shadow=shadow) for (group, shadow), sums in lines.items()),
            by_hosting={hosting: sums for ((hosting,), _), sums in split.items()},
            ledger_charge=Nanodollars(charge),
        )


async def _lines(
    connection: Connection, query: CostQuery, *, columns: Sequence[str], by_key: bool
) -> Mapping[Line, Sums]:
    group = f"array[{', '.join(columns)}]::text[]"
    table, period = ("usage_day_key", _OF_DAYS) if by_key else ("usage_hour", _OF_HOURS)
    if query.as_of is not None:
        table = USAGE_AS_IT_WAS
    rows = await connection.fetch(
        f'select {group} as "group", shadow, {_SUMMED} from {table} where {period} group by 1, 2 order by 1, 2',
        *_period(query),
        timeout=READ_TIMEOUT_S,
    )
    histograms = {} if by_key else await _histograms(connection, query, group=group)
    return {_line(row): _sums(row, latency=histograms.get(_line(row), {})) for row in rows}


async def _histograms(connection: Connection, query: CostQuery, *, group: str) -> Mapping[Line, Histograms]:
    edges = () if query.as_of is None else (bucket_edges_ms(),)
    rows = await connection.fetch(
        f"""select {group} as "group", shadow, metric, bucket, sum(n)::bigint as n
              from {"latency_hour" if query.as_of is None else LATENCY_AS_IT_WAS}
             where {_OF_HOURS} group by 1, 2, 3, 4 order by 1, 2, 3, 4""",
        *_period(query),
        *edges,
        timeout=READ_TIMEOUT_S,
    )
    histograms: dict[Line, Histograms] = {}
    for row in rows:
        of_group = histograms.setdefault(_line(row), {})
        of_group.setdefault(Latency(row["metric"]), {})[row["bucket"]] = row["n"]
    return histograms


def _line(row: Mapping[str, Any]) -> Line:
    return tuple(row["group"]), row["shadow"]


def _period(query: CostQuery) -> tuple[object, ...]:
    centres = None if query.cost_centres is None else sorted(query.cost_centres)
    of_now = (query.since, query.until, centres)
    return of_now if query.as_of is None else (*of_now, query.as_of)


def _sums(row: Mapping[str, Any], *, latency: Histograms) -> Sums:
    figures = {name: row[name] for name in SUMS if name != "decode_us"}
    return Sums(**figures, decode_s=row["decode_us"] / 1e6, latency=latency)
