"""Teams, keys that follow one another, limits by the minute, and the buckets that all processes share.

Buckets and processes are UNLOGGED: after a crash of the server they are empty, and an empty table means full buckets.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"

TEAM = """
create table team (
    name                text primary key,
    cost_centre         text not null,
    requests_per_minute bigint,
    tokens_per_minute   bigint,
    created_at_s        double precision not null,
    constraint team_limits check (requests_per_minute >= 1 and tokens_per_minute >= 1)
)
"""

#: A key's `lineage` is the first of the keys that followed one another, null for that one: they share what the limits
#: leave.
KEY = """
    alter table virtual_key
        add column requests_per_minute bigint,
        add column tokens_per_minute   bigint,
        add column lineage             text,
        add column successor           text references virtual_key (key_id),
        add column last_used_at_s      double precision,
        add constraint virtual_key_limits check (requests_per_minute >= 1 and tokens_per_minute >= 1)
"""

#: Whoever listens looks at once, when anything but the last use has changed.
TELL = (
    """
    create function keys_changed() returns trigger language plpgsql as $$
    begin
        perform pg_notify('breakeven_keys', '');
        return null;
    end $$
    """,
    """
    create trigger key_changed
        after insert or delete or update of digest, pepper_version, team, cost_centre, tags, models, expires_at_s,
                                            revoked_at_s, requests_per_minute, tokens_per_minute, lineage
        on virtual_key for each statement execute function keys_changed()
    """,
    """
    create trigger team_changed after insert or update or delete on team
        for each statement execute function keys_changed()
    """,
)

BUCKET = """
create unlogged table rate_bucket (
    name       text primary key,
    level      double precision not null,
    counted_at timestamptz not null
) with (fillfactor = 50)
"""

PROCESS = """
create unlogged table rate_process (
    holder  text primary key,
    seen_at timestamptz not null,
    claimed jsonb not null
) with (fillfactor = 50)
"""

#: A bucket holds a minute's worth and refills evenly, by this server's clock; a clock that goes back adds nothing.
TAKE = """
create function rate_take(p_wanted jsonb) returns jsonb language plpgsql as $$
declare
    wanted  record;
    kept    record;
    now_at  timestamptz;
    there   double precision;
    given   bigint;
    answers jsonb := '[]';
begin
    for wanted in
        select * from jsonb_to_recordset(p_wanted) as w (place integer, name text, per_minute bigint, amount bigint)
         order by name, place
    loop
        insert into rate_bucket (name, level, counted_at)
        values (wanted.name, wanted.per_minute, clock_timestamp())
        on conflict do nothing;
        select level, counted_at into kept from rate_bucket where name = wanted.name for update;
        now_at := clock_timestamp();
        there := least(
            wanted.per_minute,
            kept.level + greatest(extract(epoch from now_at - kept.counted_at), 0) * wanted.per_minute / 60
        );
        given := least(wanted.amount, floor(there)::bigint);
        there := least(wanted.per_minute, there - given);
        update rate_bucket set level = there, counted_at = now_at where name = wanted.name;
        answers := answers || jsonb_build_object(
            'place', wanted.place, 'given', given, 'left', floor(there)::bigint,
            'full_in_s', (wanted.per_minute - there) * 60 / wanted.per_minute
        );
    end loop;
    return answers;
end $$
"""

#: What a process claims of a target's minute is what it sent and its room: its part of what nobody claims. One process
#: after the other, so that all claims together stay within the limit, however late each hears of the others.
COMPARE = """
create function rate_compare(p_holder text, p_sent jsonb, p_serves interval, p_counts interval) returns jsonb
language plpgsql as $$
declare
    now_at    timestamptz;
    processes integer;
    place     integer;
    one       record;
    others    record;
    requests  bigint;
    tokens    bigint;
    claimed   jsonb := '{}';
    rooms     jsonb := '{}';
begin
    perform pg_advisory_xact_lock(1919251301);
    now_at := clock_timestamp();
    delete from rate_process where holder <> p_holder and seen_at <= now_at - p_counts;
    select count(*) + 1, count(*) filter (where holder < p_holder) into processes, place
      from rate_process
     where holder <> p_holder and seen_at > now_at - p_serves;
    for one in
        select s.key as target, (s.value ->> 'requests')::bigint as requests, (s.value ->> 'tokens')::bigint as tokens,
               (s.value ->> 'requests_most')::bigint as requests_most,
               (s.value ->> 'tokens_most')::bigint as tokens_most
          from jsonb_each(p_sent) as s
    loop
        select coalesce(sum((p.claimed -> one.target ->> 0)::bigint), 0) as requests,
               coalesce(sum((p.claimed -> one.target ->> 1)::bigint), 0) as tokens
          into others
          from rate_process p
         where p.holder <> p_holder;
        -- greatest() does not mind a null, so what has no limit stays null by its own name
        requests := case when one.requests_most is not null then
            ceil(greatest(one.requests_most - others.requests - one.requests, 0)::numeric / processes) end;
        tokens := case when one.tokens_most is not null then
            ceil(greatest(one.tokens_most - others.tokens - one.tokens, 0)::numeric / processes) end;
        rooms := rooms || jsonb_build_object(one.target, jsonb_build_array(requests, tokens));
        claimed := claimed || jsonb_build_object(
            one.target,
            jsonb_build_array(one.requests + coalesce(requests, 0), one.tokens + coalesce(tokens, 0))
        );
    end loop;
    insert into rate_process (holder, seen_at, claimed)
    values (p_holder, now_at, claimed)
    on conflict (holder) do update set seen_at = excluded.seen_at, claimed = excluded.claimed;
    return jsonb_build_object('processes', processes, 'place', place, 'rooms', rooms);
end $$
"""


def upgrade() -> None:
    for statement in (TEAM, KEY, *TELL, BUCKET, PROCESS, TAKE, COMPARE):
        op.execute(statement)
