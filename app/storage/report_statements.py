"""A report as it was at an earlier moment: the rows that the roll-ups were made of, those booked before then.

The roll-ups do not know when a row of theirs grew. So what is read here in their place is receipts, attempts and
adjustments themselves, in the columns of the roll-ups; it takes as long as the proof of a report, not longer.
"""
# ruff: noqa: S608  (what is put together here is our own columns)

from __future__ import annotations

from typing import Final

from app.domain.ledger.receipt import HEDGE_LOST
from app.storage.columns import SUMS, TOKENS_ADDED

#: In every statement: $1 and $2 the period, $3 the cost centres or null, $4 the moment.
_FIGURES_OF_A_REQUEST: Final = {
    "requests": "1",
    **{name: f"(one.outcome = '{name}')::integer" for name in ("complete", "abandoned", "broken", "refused")},
    "interrupted": "(one.outcome = 'interrupted')::integer",
}
_FIGURES_OF_AN_ATTEMPT: Final = {
    "attempts": "1",
    **{name: f"one.{name}" for name in (*TOKENS_ADDED, "charge")},
    "estimated_attempts": "(one.usage_source not in ('provider_final', 'nothing_sent'))::integer",
    "decode_tokens": "case when one.tpot_s is null then 0 else greatest(one.output_tokens - 1, 0) end",
    "decode_us": "case when one.tpot_s is null then 0 "
    "else round(one.tpot_s * greatest(one.output_tokens - 1, 0) * 1e6)::bigint end",
}
_FIGURES_OF_AN_ADJUSTMENT: Final = {**{name: f"one.{name}" for name in TOKENS_ADDED}, "charge": "one.amount"}


def _rows(figures: dict[str, str], *, shadow: str, source: str) -> str:
    return f"""
    select date_trunc('hour', one.moment, 'UTC') as hour, (one.moment at time zone 'UTC')::date as day, one.key_id,
           one.team, one.cost_centre, one.model, one.target, one.hosting, {shadow} as shadow,
           {", ".join(f"({figures.get(name, '0')})::bigint as {name}" for name in SUMS)}
      from {source}
"""


def _booked(table: str) -> str:
    """Rows that count for the period: by their own moment, or, where they came too late for it, by a later one."""
    return f"""(
        select *, at as moment from {table}
         where at >= $1 and at < $2 and booked_for is null and booked_at < $4
           and ($3::text[] is null or cost_centre = any($3))
         union all
        select *, booked_for from {table}
         where booked_for >= $1 and booked_for < $2 and booked_at < $4
           and ($3::text[] is null or cost_centre = any($3))
    )"""


_ATTEMPTS: Final = f"{_booked('attempt')} as one join receipt r on r.request_id = one.request_id and r.at = one.at"

#: In place of `usage_hour` and of `usage_day_key`.
USAGE_AS_IT_WAS: Final = f"""(
    {_rows(_FIGURES_OF_A_REQUEST, shadow="one.shadow_of is not null", source=f"{_booked('receipt')} as one")}
     union all {_rows(_FIGURES_OF_AN_ATTEMPT, shadow="r.shadow_of is not null", source=_ATTEMPTS)}
     union all {_rows(_FIGURES_OF_AN_ADJUSTMENT, shadow="one.shadow", source=f"{_booked('adjustment')} as one")}
) as rolled"""

#: In place of `latency_hour`. $5: `bucket_edges_ms`.
LATENCY_AS_IT_WAS: Final = f"""(
    select date_trunc('hour', one.moment, 'UTC') as hour, one.team, one.cost_centre, one.model, one.target,
           one.hosting, one.shadow_of is not null as shadow, time.metric,
           width_bucket(time.s * 1000, $5::double precision[]) as bucket, 1 as n
      from {_booked("receipt")} as one
      join attempt a on a.request_id = one.request_id and a.at = one.at and a.kind = 'settled'
                    and a.number = case when exists (select 1 from attempt lost
                                                     where lost.request_id = one.request_id and lost.at = one.at
                                                       and lost.kind = 'settled' and lost.number = one.attempts
                                                       and '{HEDGE_LOST}' = any(lost.flags))
                                        then one.attempts - 1 else one.attempts end
     cross join lateral (values ('ttft', a.ttft_s), ('tpot', a.tpot_s), ('duration', one.duration_s))
                as time (metric, s)
     where one.outcome = 'complete' and time.s is not null
) as timed"""

LEDGER_CHARGE_AS_IT_WAS: Final = f"""
select (coalesce((select sum(charge) from {_booked("attempt")} as one), 0)
      + coalesce((select sum(amount) from {_booked("adjustment")} as one), 0))::bigint
"""
