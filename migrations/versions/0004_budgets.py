"""Budgets that hold: their accounts, the leases of processes, and what receipts settle.

The functions do what `app/domain/ledger/account.py` says, one call after the other. Whoever moves money of an account
locks its row first, in the order of the key, and reads what it decides on in a statement of its own after that: a
statement sees what was there when it began, so one that locks and sums at once grants 115 of 100.

An account is opened with what the books hold for its period. Booking takes the lock OPENING shared, opening takes it
alone: so each receipt is in the sum that an account begins with, or settles with it, and never both.
"""

# ruff: noqa: S608  (what is put together here is our own number)

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

#: The key of the advisory lock; `app.storage.budget_statements` takes the same.
OPENING = 0x6265_6F70

COLUMNS = (
    "alter table receipt add column holds jsonb not null default '[]'",
    """
    alter table attempt
        add column cache_write_tokens    bigint not null default 0,
        add column cache_write_1h_tokens bigint not null default 0,
        add column audio_prompt_tokens   bigint not null default 0,
        add column audio_output_tokens   bigint not null default 0,
        add column searches              bigint not null default 0,
        add column service_tier          text not null default '',
        drop constraint attempt_usage_source,
        add constraint attempt_usage_source check (usage_source in (
            'provider_final', 'provider_partial', 'gateway_tokenizer', 'gateway_estimate', 'checkpoint', 'hold',
            'nothing_sent'
        ))
    """,
)

ACCOUNT = """
create table budget_account (
    account     text not null,
    begin_at    timestamptz not null,
    end_at      timestamptz not null,
    name        text not null,
    team        text,
    cost_centre text,
    key_id      text,
    model       text,
    tag         text,
    cap         bigint not null,
    spent       bigint not null,
    overrun     bigint not null default 0,
    opened_at   timestamptz not null default now(),
    primary key (account, begin_at),
    constraint budget_account_period check (begin_at < end_at)
) with (fillfactor = 50)
"""

LEASE = """
create table budget_lease (
    account    text not null,
    begin_at   timestamptz not null,
    holder     text not null,
    granted    bigint not null default 0,
    returned   bigint not null default 0,
    used       bigint not null default 0,
    expires_at timestamptz not null,
    state      text not null default 'open',
    primary key (account, begin_at, holder),
    foreign key (account, begin_at) references budget_account (account, begin_at),
    constraint budget_lease_state check (state in ('open', 'lost', 'closed')),
    constraint budget_lease_kept check (
        least(granted, returned, used) >= 0 and granted - returned - used >= 0
        and (state <> 'closed' or granted - returned - used = 0)
    )
) with (fillfactor = 50)
"""

#: Holders that were closed. What such a process asked for before and what arrives only now is not granted any more.
GONE = """
create table budget_gone (
    holder  text primary key,
    gone_at timestamptz not null
)
"""

#: Receipt by receipt. Mostly there is nothing to read, and then nothing is looked for: accounts are opened while nobody
#: may book.
EDGE = """
create function budget_edge(
    p_from timestamptz, p_to timestamptz, p_team text, p_cost_centre text, p_key text, p_model text, p_tag text
) returns bigint language plpgsql stable as $$
begin
    if p_from >= p_to then
        return 0;
    elsif p_key is not null then
        return (select coalesce(sum(charge), 0) from receipt
                 where key_id = p_key and at >= p_from and at < p_to
                   and (p_team is null or team = p_team) and (p_cost_centre is null or cost_centre = p_cost_centre)
                   and (p_model is null or model = p_model)
                   and (p_tag is null or facts #> '{caller,tags}' ? p_tag));
    end if;
    return (select coalesce(sum(charge), 0) from receipt
             where at >= p_from and at < p_to
               and (p_team is null or team = p_team) and (p_cost_centre is null or cost_centre = p_cost_centre)
               and (p_model is null or model = p_model) and (p_tag is null or facts #> '{caller,tags}' ? p_tag));
end $$
"""

#: Hours and days of roll-ups are UTC: whole ones are read there, the edges of a period receipt by receipt.
SPENT = """
create function budget_spent(
    p_begin timestamptz, p_end timestamptz, p_team text, p_cost_centre text, p_key text, p_model text, p_tag text
) returns bigint language plpgsql stable as $$
declare
    step  text := case when p_key is null then 'hour' else 'day' end;
    first timestamptz := date_trunc(step, p_begin, 'UTC');
    last  timestamptz := date_trunc(step, p_end, 'UTC');
    whole bigint := 0;
begin
    if first < p_begin then
        first := first + case step when 'hour' then interval '1 hour' else interval '24 hours' end;
    end if;
    if p_tag is not null or last <= first then  -- roll-ups know no tags
        first := p_end;
        last := p_end;
    elsif p_key is null then
        select coalesce(sum(charge), 0) into whole from usage_hour
         where hour >= first and hour < last
           and (p_team is null or team = p_team) and (p_cost_centre is null or cost_centre = p_cost_centre)
           and (p_model is null or model = p_model);
    else
        select coalesce(sum(charge), 0) into whole from usage_day_key
         where day >= (first at time zone 'UTC')::date and day < (last at time zone 'UTC')::date
           and key_id = p_key
           and (p_team is null or team = p_team) and (p_cost_centre is null or cost_centre = p_cost_centre)
           and (p_model is null or model = p_model);
    end if;
    return whole + budget_edge(p_begin, first, p_team, p_cost_centre, p_key, p_model, p_tag)
                 + budget_edge(last, p_end, p_team, p_cost_centre, p_key, p_model, p_tag);
end $$
"""

#: Takes, gives back and renews, account by account in the order of their keys; each answer names its `place`. Accounts
#: are opened before any row is locked, for who books has the lock OPENING already when it waits for a row.
TAKE = f"""
create function budget_take(p_wanted jsonb, p_holder text, p_ttl interval) returns jsonb language plpgsql as $$
declare
    wanted  record;
    kept    record;
    gone    boolean;
    room    bigint;
    more    bigint;
    answers jsonb := '[]';
begin
    perform pg_advisory_xact_lock_shared(hashtextextended(p_holder, {OPENING}));
    gone := exists (select 1 from budget_gone where holder = p_holder);
    if exists (
        select 1 from jsonb_to_recordset(p_wanted) as w (account text, begin_at timestamptz)
         where not exists (select 1 from budget_account a where a.account = w.account and a.begin_at = w.begin_at)
    ) then
        perform pg_advisory_xact_lock({OPENING});
        insert into budget_account (account, begin_at, end_at, name, team, cost_centre, key_id, model, tag, cap, spent)
        select w.account, w.begin_at, w.end_at, w.name, w.team, w.cost_centre, w.key_id, w.model, w.tag, w.cap,
               budget_spent(w.begin_at, w.end_at, w.team, w.cost_centre, w.key_id, w.model, w.tag)
          from jsonb_to_recordset(p_wanted) as w (
                   account text, begin_at timestamptz, end_at timestamptz, name text, team text, cost_centre text,
                   place integer, key_id text, model text, tag text, cap bigint
               )
         where not exists (select 1 from budget_account a where a.account = w.account and a.begin_at = w.begin_at)
         order by w.account, w.begin_at, w.place
        on conflict do nothing;
    end if;
    for wanted in
        select * from jsonb_to_recordset(p_wanted) as w (
                   place integer, account text, begin_at timestamptz, cap bigint, need bigint, want bigint,
                   returned bigint
               )
         order by account, begin_at, place
    loop
        perform 1 from budget_account
          where account = wanted.account and begin_at = wanted.begin_at for update;
        if not gone then
            update budget_account set cap = wanted.cap
             where account = wanted.account and begin_at = wanted.begin_at and cap <> wanted.cap;
            insert into budget_lease as l (account, begin_at, holder, expires_at)
            values (wanted.account, wanted.begin_at, p_holder, clock_timestamp() + p_ttl)
            on conflict (account, begin_at, holder) do update
               set returned = l.returned
                              + greatest(least(wanted.returned - l.returned, l.granted - l.returned - l.used), 0),
                   expires_at = excluded.expires_at,
                   state = 'open';
        end if;
        select a.cap, a.spent, a.overrun,
               coalesce(sum(l.granted - l.returned - l.used) filter (where l.state = 'open'), 0)::bigint as leased,
               coalesce(sum(l.granted - l.returned - l.used) filter (where l.state = 'lost'), 0)::bigint as lost,
               coalesce(sum(l.granted) filter (where l.holder = p_holder), 0)::bigint as granted
          into kept
          from budget_account a left join budget_lease l using (account, begin_at)
         where a.account = wanted.account and a.begin_at = wanted.begin_at
         group by a.account, a.begin_at;
        room := greatest(kept.cap - kept.spent - kept.leased - kept.lost, 0);
        more := case when gone or wanted.need > room then 0
                     else greatest(wanted.need, least(wanted.want, room / 8)) end;
        if more > 0 then
            update budget_lease l set granted = l.granted + more
             where l.account = wanted.account and l.begin_at = wanted.begin_at and l.holder = p_holder;
        end if;
        answers := answers || jsonb_build_object(
            'place', wanted.place, 'granted', kept.granted + more, 'cap', kept.cap, 'spent', kept.spent,
            'leased', kept.leased + more, 'lost', kept.lost, 'overrun', kept.overrun
        );
    end loop;
    return answers;
end $$
"""

#: Moves each account once by all that fell into it: pairs of (account, begin_at), what was charged and overrun there.
#: Accounts are locked in the order of their keys, and leases only under the lock of their account.
MOVE = """
create function budget_move(
    p_accounts text[], p_begins timestamptz[], p_charges bigint[], p_overruns bigint[]
) returns void language plpgsql as $$
begin
    perform 1
       from budget_account a
      where (a.account, a.begin_at) in (select * from unnest(p_accounts, p_begins))
      order by a.account, a.begin_at
        for update;
    update budget_account a
       set spent = a.spent + moved.charge, overrun = a.overrun + moved.overrun
      from (
               select account, begin_at, sum(charge)::bigint as charge, sum(overrun)::bigint as overrun
                 from unnest(p_accounts, p_begins, p_charges, p_overruns)
                      as given (account, begin_at, charge, overrun)
                group by account, begin_at
           ) as moved
     where a.account = moved.account and a.begin_at = moved.begin_at;
end $$
"""

#: `booked`, a receipt, falls into `a`, an account, if its key and its team do too.
_WITHIN = """a.begin_at <= booked.at and booked.at < a.end_at
           and (a.cost_centre is null or a.cost_centre = booked.cost_centre)
           and (a.model is null or a.model = booked.model)
           and (a.tag is null or booked.tags ? a.tag)"""

#: $1 the ids of the receipts that this transaction really inserted; their moments lie between $2 and $3. What a lease
#: gives for several receipts is what it gives for their sum. Budgets of a key and of a team are met by hashing: a
#: thousand of them cost a batch no more than fifty do.
SETTLE = f"""
create function budget_settle(p_inserted uuid[], p_first timestamptz, p_last timestamptz) returns void
language plpgsql as $$
declare
    accounts text[];
    begins   timestamptz[];
    holders  text[];
    charges  bigint[];
    usages   bigint[];
    overruns bigint[];
begin
    with live as materialized (
        select * from budget_account where begin_at <= p_last and end_at > p_first
    ),
    booked as materialized (
        select request_id, at, key_id, team, cost_centre, model, charge, facts #> '{{caller,tags}}' as tags, holds
          from receipt
         where request_id = any (p_inserted) and at between p_first and p_last and exists (select 1 from live)
    ),
    held as materialized (
        select booked.request_id, one.account, min(one.holder) as holder, sum(one.amount) as amount
          from booked, jsonb_to_recordset(booked.holds) as one (account text, holder text, amount bigint)
         where booked.holds <> '[]'
         group by booked.request_id, one.account
    ),
    fell as (
        select a.account, a.begin_at, booked.request_id, booked.charge
          from booked
          join live a
            on a.key_id = booked.key_id and (a.team is null or a.team = booked.team) and {_WITHIN}
         union all
        select a.account, a.begin_at, booked.request_id, booked.charge
          from booked
          join live a
            on a.key_id is null and a.team = booked.team and {_WITHIN}
         union all
        select a.account, a.begin_at, booked.request_id, booked.charge
          from booked
          join live a
            on a.key_id is null and a.team is null and {_WITHIN}
    ),
    moved as (
        select fell.account, fell.begin_at, held.holder, sum(fell.charge)::bigint as charge,
               sum(greatest(fell.charge, 0))::bigint as used,
               sum(case when held.holder is null then 0 else greatest(fell.charge - held.amount, 0) end)::bigint
                   as overrun
          from fell
          left join held on held.request_id = fell.request_id and held.account = fell.account
         group by fell.account, fell.begin_at, held.holder
    )
    select array_agg(account), array_agg(begin_at), array_agg(holder), array_agg(charge), array_agg(used),
           array_agg(overrun)
      into accounts, begins, holders, charges, usages, overruns
      from moved;
    if accounts is null then
        return;
    end if;
    perform budget_move(accounts, begins, charges, overruns);
    update budget_lease l
       set used = l.used + least(given.used, l.granted - l.returned - l.used)
      from unnest(accounts, begins, holders, usages) as given (account, begin_at, holder, used)
     where l.account = given.account and l.begin_at = given.begin_at and l.holder = given.holder
       and l.state <> 'closed' and given.used > 0;
end $$
"""

#: $1: adjustments that this transaction really inserted, an array of {at, key_id, team, cost_centre, model, tags,
#: amount}; all but the amount are the corrected receipt's own, so that each budget is corrected where it was charged.
ADJUST = """
create function budget_adjust(p_adjustments jsonb) returns void language plpgsql as $$
declare
    accounts text[];
    begins   timestamptz[];
    charges  bigint[];
begin
    select array_agg(account), array_agg(begin_at), array_agg(charge)
      into accounts, begins, charges
      from (
               select a.account, a.begin_at, sum(given.amount)::bigint as charge
                 from jsonb_to_recordset(p_adjustments) as given (
                          at timestamptz, key_id text, team text, cost_centre text, model text, tags jsonb,
                          amount bigint
                      )
                 join budget_account a
                   on a.begin_at <= given.at and given.at < a.end_at
                  and (a.team is null or a.team = given.team)
                  and (a.cost_centre is null or a.cost_centre = given.cost_centre)
                  and (a.key_id is null or a.key_id = given.key_id)
                  and (a.model is null or a.model = given.model)
                  and (a.tag is null or given.tags ? a.tag)
                group by a.account, a.begin_at
           ) as moved;
    if accounts is not null then
        perform budget_move(accounts, begins, charges, array_fill(0::bigint, array[cardinality(accounts)]));
    end if;
end $$
"""

#: Leases past their time, of accounts that it has locked: one that lapses meanwhile waits for the next sweep. After a
#: day nothing that a closed holder asked for is on its way any more.
SWEEP = """
create function budget_sweep() returns integer language plpgsql as $$
declare
    accounts text[];
    begins   timestamptz[];
    lapsed   integer := 0;
begin
    select array_agg(locked.account), array_agg(locked.begin_at) into accounts, begins
      from (
               select a.account, a.begin_at
                 from budget_account a
                where (a.account, a.begin_at) in (
                          select l.account, l.begin_at from budget_lease l
                           where l.state <> 'closed' and l.state = 'open' and l.expires_at <= clock_timestamp()
                      )
                order by a.account, a.begin_at
                  for update
           ) as locked;
    if accounts is not null then
        update budget_lease l
           set state = case when l.granted - l.returned - l.used > 0 then 'lost' else 'closed' end
          from unnest(accounts, begins) as locked (account, begin_at)
         where l.account = locked.account and l.begin_at = locked.begin_at
           and l.state = 'open' and l.expires_at <= clock_timestamp();
        get diagnostics lapsed = row_count;
    end if;
    delete from budget_gone where gone_at < clock_timestamp() - interval '1 day';
    return lapsed;
end $$
"""

CLOSE = f"""
create function budget_close(p_holder text) returns integer language plpgsql as $$
declare
    closed integer;
begin
    perform pg_advisory_xact_lock(hashtextextended(p_holder, {OPENING}));
    insert into budget_gone (holder, gone_at) values (p_holder, clock_timestamp())
    on conflict (holder) do update set gone_at = excluded.gone_at;
    perform 1
       from budget_account a
      where (a.account, a.begin_at) in (
                select l.account, l.begin_at from budget_lease l where l.holder = p_holder and l.state <> 'closed'
            )
      order by a.account, a.begin_at
        for update;
    update budget_lease l
       set returned = l.granted - l.used, state = 'closed'
     where l.holder = p_holder and l.state <> 'closed';
    get diagnostics closed = row_count;
    return closed;
end $$
"""

#: Renewals change no column of an index, so that they stay on their page. Where rows are only added, vacuum comes late,
#: and a BRIN index knows nothing of what was added since the last one unless it is told to.
INDEXES = (
    *(
        statement
        for table in ("receipt", "attempt")
        for statement in (
            f"drop index {table}_at",
            f"create index {table}_at on {table} using brin (at) with (pages_per_range = 32, autosummarize = on)",
        )
    ),
    "create index budget_account_end_at on budget_account (end_at)",
    "create index budget_lease_not_closed on budget_lease (holder, account, begin_at) where state <> 'closed'",
)


def upgrade() -> None:
    tables = (*COLUMNS, ACCOUNT, LEASE, GONE, *INDEXES)
    for statement in (*tables, EDGE, SPENT, TAKE, MOVE, SETTLE, ADJUST, SWEEP, CLOSE):
        op.execute(statement)
