"""What a month of the ledger holds, as text of statements. They run on PostgreSQL 15 and later.

A row's digest is over the columns named here, in this order, as text. They never change: what a later version adds to
a table becomes a part of its own, or the digests of months already closed would change.
"""
# ruff: noqa: S608  (what is put together here is our own columns)

from __future__ import annotations

#: How moments and numbers are written, whatever the session says.
AS_EVER = (
    "set local timezone = 'UTC'",
    "set local datestyle = 'ISO'",
    "set local extra_float_digits = 1",
    "set local bytea_output = 'hex'",
)

_RECEIPT = """
    request_id, at, key_id, team, cost_centre, model, endpoint, stream, caller_label, policy_digest, rule, target,
    hosting, outcome, status, attempts, charge, duration_s, overhead_s, flags, facts, decision, booked_at, shadow_of,
    holds, booked_for
"""
_ATTEMPT = """
    attempt_id, kind, at, request_id, number, key_id, team, cost_centre, model, target, hosting, target_kind,
    upstream_model, outcome, fault, fault_message, status, provider_request_id, started_at, prompt_tokens,
    cached_tokens, output_tokens, reasoning_tokens, usage_source, content_events, ttft_s, tpot_s, duration_s,
    policy_digest, rate_card_digest, price_prompt, price_cached_prompt, price_output, charge, flags, booked_at,
    cache_write_tokens, cache_write_1h_tokens, audio_prompt_tokens, audio_output_tokens, searches, service_tier,
    booked_for, entry_id
"""
_ADJUSTMENT = """
    adjustment_id, attempt_id, request_id, at, key_id, team, cost_centre, model, target, hosting, shadow, tags, reason,
    by, rate_card_digest, prompt_tokens, cached_tokens, output_tokens, reasoning_tokens, amount, booked_at, booked_for,
    entry_id
"""


def _digest(columns: str) -> str:
    return f"sha256(convert_to(row({columns})::text, 'UTF8'))"


def _part(*, rows: str, key: str) -> str:
    """`rows` gives each row's key, its `amount` and its `digest`."""
    return f"""
    select count(*) as rows, coalesce(sum(amount), 0)::bigint as amount,
           encode(ledger_chain(digest order by {key}), 'hex') as digest
      from ({rows}) as rows
"""


def _of_both_times(*, table: str, columns: str, key: str) -> str:
    rows = f"select {key}, charge as amount, {_digest(columns)} as digest from {table}"
    return f"""
        {rows} where at >= $1 and at < $2 and booked_for is null
     union all
        {rows} where booked_for >= $1 and booked_for < $2
"""


#: Part → its rows, sum and digest; $1 the month's begin, $2 its end. The order of parts is the order of the digest.
PARTS = {
    "receipts": _part(
        rows=_of_both_times(table="receipt", columns=_RECEIPT, key="request_id, at"), key="request_id, at"
    ),
    "attempts": _part(
        rows=_of_both_times(table="attempt", columns=_ATTEMPT, key="attempt_id, kind, at"), key="attempt_id, kind, at"
    ),
    "adjustments": _part(
        rows=f"""
        select adjustment_id collate "C" as id, amount, {_digest(_ADJUSTMENT)} as digest
          from adjustment where booked_for >= $1 and booked_for < $2
""",
        key="id",
    ),
    "postings": _part(
        rows=f"""
        select entry_id, account collate "C" as account, amount,
               {_digest("entry_id, month, kind, description, booked_at, account, amount")} as digest
          from entry left join posting using (entry_id)
         where month = ($1::timestamptz at time zone 'UTC')::date and $2::timestamptz is not null
""",
        key="entry_id, account",
    ),
}

SEEN = """
    select clock_timestamp() as now, (select min(hour) from usage_hour) as first,
           coalesce((select array_agg(month order by month) from month_seal), '{}') as sealed
"""
CLOSED = "select month, parts, previous, digest from month_close order by month"
#: $1 the month's begin, $2 its end.
UNFINISHED = """
    select count(distinct holder)
      from budget_lease join budget_account using (account, begin_at)
     where state <> 'closed' and granted - returned - used > 0 and budget_account.begin_at < $2 and end_at > $1
"""
#: $1 the month, $2 its end, $3 who. Only a month that is over, and only the one after the last.
SEAL = """
    insert into month_seal (month, by)
    select $1::date, $3
     where clock_timestamp() >= $2
       and coalesce((select max(month) + interval '1 month' = $1::date from month_seal), true)
    on conflict do nothing
"""
IS_SEALED = "select exists (select 1 from month_seal where month = $1)"
KEEP = "insert into month_close (month, parts, previous, digest) values ($1, $2::text::jsonb, $3, $4)"
