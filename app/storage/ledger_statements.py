"""The ledger book's statements, as text. They run on PostgreSQL 15 and later; no value is ever written into them."""
# ruff: noqa: S608  (what is put together here is our own columns)

from __future__ import annotations

from app.domain.ledger.receipt import HEDGE_LOST
from app.storage.columns import SUMS

_SUMS = ", ".join(SUMS)
_SUMMED = ", ".join(f"sum({name})" for name in SUMS)
_ADDED = ", ".join(f"{name} = kept.{name} + excluded.{name}" for name in SUMS)


def _final(attempts: str) -> str:
    """`Receipt.final`: the last attempt, or the one before where that was a hedge that ended before it."""
    return f"({attempts} -> case when {attempts} -> -1 -> 'flags' ? '{HEDGE_LOST}' then -2 else -1 end)"


#: How a receipt's JSON reads as columns; `place` is its place in the batch.
_GIVEN = f"""
    select distinct on (request_id)
           *,
           'epoch'::timestamptz + at_us * interval '1 microsecond' as at,
           facts #>> '{{caller,key_id}}' as key_id,
           facts #>> '{{caller,team}}' as team,
           facts #>> '{{caller,cost_centre}}' as cost_centre,
           facts ->> 'model' as model,
           facts ->> 'endpoint' as endpoint,
           (facts ->> 'stream')::boolean as stream,
           coalesce({_final("attempts")} ->> 'target', '') as target,
           coalesce({_final("attempts")} ->> 'hosting', '') as hosting,
           shadow_of is not null as shadow,
           jsonb_array_length(attempts) as attempt_count,
           case when 'epoch'::timestamptz + at_us * interval '1 microsecond' < (select sealed_until())
                then greatest(statement_timestamp(), (select sealed_until())) end as booked_for
      from rows from (jsonb_to_recordset($1::text::jsonb) as (
               request_id uuid, at_us bigint, facts jsonb, caller_label text, policy_digest text, decision jsonb,
               outcome text, status integer, attempts jsonb, duration_s double precision,
               overhead_s double precision, flags text[], shadow_of uuid, holds jsonb
           )) with ordinality as record (
               request_id, at_us, facts, caller_label, policy_digest, decision,
               outcome, status, attempts, duration_s,
               overhead_s, flags, shadow_of, holds, place
           )
     order by request_id, place
"""

#: One row an attempt, with what it takes over from its receipt.
_TRIED = """
    select given.request_id, given.at, given.key_id, given.team, given.cost_centre, given.model, given.policy_digest,
           given.shadow, given.booked_for,
           date_trunc('month', coalesce(given.booked_for, given.at), 'UTC')::date as month,
           'epoch'::timestamptz + tried.started_us * interval '1 microsecond' as started_at,
           (tried.usage ->> 'prompt')::bigint as prompt_tokens,
           (tried.usage ->> 'cached')::bigint as cached_tokens,
           (tried.usage ->> 'output')::bigint as output_tokens,
           (tried.usage ->> 'reasoning')::bigint as reasoning_tokens,
           coalesce((tried.usage ->> 'cache_write')::bigint, 0) as cache_write_tokens,
           coalesce((tried.usage ->> 'cache_write_1h')::bigint, 0) as cache_write_1h_tokens,
           coalesce((tried.usage ->> 'audio_prompt')::bigint, 0) as audio_prompt_tokens,
           coalesce((tried.usage ->> 'audio_output')::bigint, 0) as audio_output_tokens,
           coalesce((tried.usage ->> 'searches')::bigint, 0) as searches,
           coalesce(tried.usage ->> 'tier', '') as service_tier,
           tried.*
      from given
      join inserted using (request_id)
     cross join lateral jsonb_to_recordset(given.attempts) as tried (
               attempt_id text, number integer, target text, hosting text, kind text, upstream_model text,
               outcome text, fault text, fault_message text, status integer, provider_request_id text,
               started_us bigint, usage jsonb, usage_source text, content_events bigint,
               ttft_s double precision, tpot_s double precision, duration_s double precision,
               rate_card_digest text, price_prompt numeric, price_cached_prompt numeric, price_output numeric,
               charge bigint, flags text[]
           )
"""

#: What counts: a request for the target that ended it, tokens and money for each attempt's own target.
_COUNTED = """
    select date_trunc('hour', coalesce(booked_for, at), 'UTC') as hour,
           (coalesce(booked_for, at) at time zone 'UTC')::date as day,
           key_id, team, cost_centre, model, target, hosting, shadow,
           1 as requests, 0 as attempts,
           (outcome = 'complete')::integer as complete, (outcome = 'abandoned')::integer as abandoned,
           (outcome = 'broken')::integer as broken, (outcome = 'refused')::integer as refused,
           (outcome = 'interrupted')::integer as interrupted,
           0::bigint as prompt_tokens, 0::bigint as cached_tokens, 0::bigint as output_tokens,
           0::bigint as reasoning_tokens, 0 as estimated_attempts, 0::bigint as charge,
           0::bigint as decode_tokens, 0::bigint as decode_us
      from given
      join inserted using (request_id)
     union all
    select date_trunc('hour', coalesce(booked_for, at), 'UTC'), (coalesce(booked_for, at) at time zone 'UTC')::date,
           key_id, team, cost_centre, model, target, hosting, shadow,
           0, 1, 0, 0, 0, 0, 0,
           prompt_tokens, cached_tokens, output_tokens, reasoning_tokens,
           (usage_source not in ('provider_final', 'nothing_sent'))::integer, charge,
           case when tpot_s is null then 0 else greatest(output_tokens - 1, 0) end,
           case when tpot_s is null then 0 else round(tpot_s * greatest(output_tokens - 1, 0) * 1e6)::bigint end
      from tried
"""

#: Times of complete requests: the final attempt's, and the request's own duration. $2: `bucket_edges_ms`.
_TIMED = f"""
    select date_trunc('hour', coalesce(given.booked_for, given.at), 'UTC') as hour,
           given.team, given.cost_centre, given.model, given.target, given.hosting, given.shadow, time.metric,
           width_bucket(time.s * 1000, $2::double precision[]) as bucket
      from given
      join inserted using (request_id)
     cross join lateral (values
               ('ttft', ({_final("given.attempts")} ->> 'ttft_s')::double precision),
               ('tpot', ({_final("given.attempts")} ->> 'tpot_s')::double precision),
               ('duration', given.duration_s)
           ) as time (metric, s)
     where given.outcome = 'complete' and given.attempt_count > 0 and time.s is not null
"""

#: Whose expense, against whom it is owed to: a seller, or the machines that we pay by the hour.
EXPENSE = "'team_expense:' || ledger_name(team) || '/' || ledger_name(cost_centre)"
OWED = "case hosting when 'managed' then 'provider_payable:' else 'gpu_pool_clearing:' end || ledger_name(target)"


def entered(*, kind: str, rows: str, amount: str) -> str:
    """The common table expressions `entered` (month, entry_id), `journal` and `posted`: an entry for each month in
    `rows`, and its postings, summed up by account."""
    return f"""
entered as materialized (
    select month, nextval('entry_entry_id_seq') as entry_id
      from (select distinct month from {rows} order by month) as months
),
journal as (
    insert into entry (entry_id, month, kind, description)
    select entry_id, month, '{kind}', (select count(*) from {rows} where {rows}.month = entered.month) || ' {kind}'
      from entered
),
posted as (
    insert into posting (entry_id, account, amount)
    select entry_id, side.account, sum(side.amount)
      from {rows} join entered using (month)
     cross join lateral (values ({EXPENSE}, {amount}), ({OWED}, -{amount})) as side (account, amount)
     group by entry_id, side.account having sum(side.amount) <> 0
     order by entry_id, side.account
)
"""


def _rolled_up(*, table: str, key: str) -> str:
    """In the order of the key, so that writers of the same rows come one after the other."""
    return f"""
    insert into {table} as kept ({key}, {_SUMS})
    select {key}, {_SUMMED} from counted group by {key} order by {key}
    on conflict ({key}) do update set {_ADDED}
"""


_LATENCY_KEY = "hour, team, cost_centre, model, target, hosting, metric, bucket, shadow"

#: $1 the batch as one JSON array, $2 the bucket edges in ms → what was really inserted, and whether there are budgets.
BOOK = f"""
with given as materialized ({_GIVEN}),
inserted as (
    insert into receipt (request_id, at, key_id, team, cost_centre, model, endpoint, stream, caller_label,
                         policy_digest, rule, target, hosting, outcome, status, attempts, charge, duration_s,
                         overhead_s, flags, facts, decision, shadow_of, holds, booked_for)
    select request_id, at, key_id, team, cost_centre, model, endpoint, stream, caller_label,
           policy_digest, decision ->> 'rule', target, hosting, outcome, status, attempt_count,
           (select coalesce(sum(charge), 0) from jsonb_to_recordset(attempts) as tried (charge bigint)), duration_s,
           overhead_s, flags, facts, decision, shadow_of, coalesce(holds, '[]'), booked_for
      from given
     order by request_id
    on conflict (request_id, at) do nothing
    returning request_id, at as moment
),
tried as materialized ({_TRIED}),
counted as materialized ({_COUNTED}),
{entered(kind="attempts", rows="tried", amount="charge")},
settled as (
    insert into attempt (attempt_id, at, request_id, number, key_id, team, cost_centre, model, target, hosting,
                         target_kind, upstream_model, outcome, fault, fault_message, status, provider_request_id,
                         started_at, prompt_tokens, cached_tokens, output_tokens, reasoning_tokens, usage_source,
                         content_events, ttft_s, tpot_s, duration_s, policy_digest, rate_card_digest, price_prompt,
                         price_cached_prompt, price_output, charge, flags, cache_write_tokens,
                         cache_write_1h_tokens, audio_prompt_tokens, audio_output_tokens, searches, service_tier,
                         booked_for, entry_id)
    select attempt_id, at, request_id, number, key_id, team, cost_centre, model, target, hosting,
           kind, upstream_model, outcome, fault, fault_message, status, provider_request_id,
           started_at, prompt_tokens, cached_tokens, output_tokens, reasoning_tokens, usage_source,
           content_events, ttft_s, tpot_s, duration_s, policy_digest, rate_card_digest, price_prompt,
           price_cached_prompt, price_output, charge, flags, cache_write_tokens,
           cache_write_1h_tokens, audio_prompt_tokens, audio_output_tokens, searches, service_tier,
           booked_for, entry_id
      from tried join entered using (month)
     order by attempt_id
),
by_hour as ({_rolled_up(table="usage_hour", key="hour, team, cost_centre, model, target, hosting, shadow")}),
by_key as ({_rolled_up(table="usage_day_key", key="day, key_id, team, cost_centre, model, target, hosting, shadow")}),
by_time as (
    insert into latency_hour as kept ({_LATENCY_KEY}, n)
    select {_LATENCY_KEY}, count(*) from ({_TIMED}) as timed group by {_LATENCY_KEY} order by {_LATENCY_KEY}
    on conflict ({_LATENCY_KEY}) do update set n = kept.n + excluded.n
)
select coalesce(array_agg(request_id), '{{}}') as ids, min(moment) as first, max(moment) as last,
       exists (select 1 from budget_account) as budgets
  from inserted
"""

#: A receipt as the JSON that `receipt_json.decode` reads; `receipt` and `found` stand for the rows.
_AS_JSON = """
    select jsonb_build_object(
               'request_id', found.request_id,
               'at_us', (extract(epoch from found.at) * 1000000)::bigint,
               'facts', found.facts,
               'caller_label', found.caller_label,
               'policy_digest', found.policy_digest,
               'decision', found.decision,
               'outcome', found.outcome,
               'status', found.status,
               'duration_s', found.duration_s,
               'overhead_s', found.overhead_s,
               'flags', found.flags,
               'shadow_of', found.shadow_of,
               'holds', found.holds,
               'attempts', coalesce((
                   select jsonb_agg(jsonb_build_object(
                              'attempt_id', tried.attempt_id,
                              'number', tried.number,
                              'target', tried.target,
                              'hosting', tried.hosting,
                              'kind', tried.target_kind,
                              'upstream_model', tried.upstream_model,
                              'outcome', tried.outcome,
                              'fault', tried.fault,
                              'fault_message', tried.fault_message,
                              'status', tried.status,
                              'provider_request_id', tried.provider_request_id,
                              'started_us', (extract(epoch from tried.started_at) * 1000000)::bigint,
                              'usage', jsonb_build_object(
                                  'prompt', tried.prompt_tokens,
                                  'cached', tried.cached_tokens,
                                  'output', tried.output_tokens,
                                  'reasoning', tried.reasoning_tokens,
                                  'cache_write', tried.cache_write_tokens,
                                  'cache_write_1h', tried.cache_write_1h_tokens,
                                  'audio_prompt', tried.audio_prompt_tokens,
                                  'audio_output', tried.audio_output_tokens,
                                  'searches', tried.searches,
                                  'tier', tried.service_tier
                              ),
                              'usage_source', tried.usage_source,
                              'content_events', tried.content_events,
                              'ttft_s', tried.ttft_s,
                              'tpot_s', tried.tpot_s,
                              'duration_s', tried.duration_s,
                              'rate_card_digest', tried.rate_card_digest,
                              'price_prompt', tried.price_prompt::text,
                              'price_cached_prompt', tried.price_cached_prompt::text,
                              'price_output', tried.price_output::text,
                              'charge', tried.charge,
                              'flags', tried.flags
                          ) order by tried.number)
                     from attempt as tried
                    where tried.key_id = found.key_id and tried.at = found.at
                      and tried.request_id = found.request_id and tried.kind = 'settled'
               ), '[]')
           )::text as receipt
"""

#: $1 the request id, $2 the key it must belong to, or null. A caller is never shown what was sent to a shadow.
FIND = f"""
{_AS_JSON}
  from receipt as found
 where found.request_id = $1 and ($2::text is null or found.key_id = $2 and found.shadow_of is null)
"""

#: $1 only ids less than this, $2 how many. Ids are UUIDv7: by id is by time.
LATEST = f"""
{_AS_JSON}
  from (select * from receipt where request_id < $1 order by request_id desc limit $2) as found
 order by found.request_id desc
"""

#: $1 only requests from this moment on, $2 the flag that one of their attempts has, $3 how many.
FLAGGED = f"""
{_AS_JSON}
  from (select * from receipt as each
         where each.at >= $1
           and exists (select 1 from attempt
                        where attempt.at = each.at and attempt.request_id = each.request_id
                          and attempt.at >= $1 and attempt.kind = 'settled' and $2 = any (attempt.flags))
         order by each.request_id desc limit $3) as found
 order by found.request_id desc
"""
