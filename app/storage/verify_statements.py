"""One statement an invariant: how many rows were looked at, how many break it, and the first of those by name.

They only read. All run in one transaction of one snapshot, so what is on its way into the books is in none of them.
"""
# ruff: noqa: S608  (what is put together here is our own text)

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from app.domain.ledger.invariants import NAMED_MOST, Invariant

#: A lease is lost at its time, and told so by the next sweep; after this long nobody sweeps.
SWEPT_WITHIN: Final = "2 minutes"


def _counted(rows: str, wrong: str) -> str:
    """`rows`: a query of one number. `wrong`: a query of texts, one a violation."""
    return f"""
with wrong as materialized ({wrong})
select ({rows})::bigint as rows, (select count(*) from wrong) as violations,
       array(select name from wrong order by name limit {NAMED_MOST}) as named
"""


STATEMENTS: Final[Mapping[Invariant, str]] = {
    Invariant.SETTLED_ONCE: _counted(
        "select count(*) from receipt",
        """
        select coalesce(r.request_id, a.request_id)::text as name
          from receipt r
          full join (
                   select request_id, at, count(*) as n, sum(charge) as charge
                     from attempt where kind = 'settled' group by request_id, at
               ) a on a.request_id = r.request_id and a.at = r.at
         where r.request_id is null or r.attempts <> coalesce(a.n, 0) or r.charge <> coalesce(a.charge, 0)
        """,
    ),
    Invariant.UNIQUE: _counted(
        "select count(*) from attempt",
        """
        select attempt_id || ' ' || kind as name from attempt group by attempt_id, kind having count(*) > 1
         union all
        select request_id::text from receipt group by request_id having count(*) > 1
        """,
    ),
    Invariant.ACCOUNTS: _counted(
        "select count(*) from budget_account",
        """
        select name || ' from ' || begin_at || ': ' || spent || ' instead of ' || booked as name
          from (
                   select *, budget_spent(begin_at, end_at, team, cost_centre, key_id, model, tag) as booked
                     from budget_account
               ) as account
         where spent <> booked
        """,
    ),
    # $1: the accounts of budgets that are soft by the policy, whose overruns are theirs.
    Invariant.WITHIN_CAP: _counted(
        "select count(*) from budget_account where account <> all ($1::text[])",
        """
        select name || ' from ' || begin_at || ': ' || overrun as name
          from budget_account where overrun > 0 and account <> all ($1::text[])
        """,
    ),
    Invariant.LEASES: _counted(
        "select count(*) from budget_lease",
        f"""
        select account || ' by ' || holder as name
          from budget_lease
         where (state = 'open' and expires_at < now() - interval '{SWEPT_WITHIN}')
            or granted - returned - used < 0 or (state = 'closed' and granted - returned - used <> 0)
        """,
    ),
    Invariant.BALANCED: _counted(
        "select count(*) from entry",
        "select 'entry ' || entry_id as name from posting group by entry_id having sum(amount) <> 0",
    ),
    Invariant.CLOSED_MONTHS: _counted(
        "select count(*) from month_close",
        """
        select this.month::text as name
          from (select month, previous, lag(digest) over (order by month) as before from month_close) as this
         where this.before is not null and this.previous <> this.before
         union all
        select month::text from month_close where month not in (select month from month_seal)
        """,
    ),
    Invariant.PROVENANCE: _counted(
        "select count(*) from attempt",
        "select attempt_id as name from attempt where '' in (rate_card_digest, policy_digest, usage_source)",
    ),
    Invariant.ESTIMATES: _counted(
        "select count(*) from receipt where holds <> '[]'",
        """
        select r.request_id || ': ' || r.charge || ' of ' || held.least as name
          from receipt r
         cross join lateral (
                   select min((hold ->> 'amount')::bigint) as least from jsonb_array_elements(r.holds) as hold
               ) as held
         where r.holds <> '[]' and r.charge > held.least and exists (
                   select 1 from attempt a
                    where a.request_id = r.request_id and a.at = r.at
                      and a.usage_source not in ('provider_final', 'nothing_sent')
               )
        """,
    ),
    Invariant.ROLL_UPS: _counted(
        "select count(*) from usage_hour",
        """
        select what || ' ' || month::date as name
          from (
                   select 'charge in usage_hour' as what, date_trunc('month', hour, 'UTC') as month, sum(charge) as sum
                     from usage_hour group by 2
                    union all
                   select 'charge in usage_day_key', date_trunc('month', day::timestamp) at time zone 'UTC', sum(charge)
                     from usage_day_key group by 2
               ) as rolled
          full join (
                   select what, month, sum(charge) as sum
                     from (
                              select date_trunc('month', coalesce(booked_for, at), 'UTC') as month, charge from attempt
                               union all
                              select date_trunc('month', booked_for, 'UTC'), amount from adjustment
                          ) as booked
                    cross join (values ('charge in usage_hour'), ('charge in usage_day_key')) as each (what)
                    group by what, month
               ) as ledger using (what, month)
         where coalesce(rolled.sum, 0) <> coalesce(ledger.sum, 0)
        """,
    ),
    Invariant.JOURNAL: _counted(
        "select count(*) from posting",
        """
        select 'entry ' || entry_id as name
          from (
                   select entry_id, sum(amount) filter (where amount > 0) as posted from posting
                    where account like 'team_expense:%' group by entry_id
               ) as posted
          full join (
                   select entry_id, sum(charge) filter (where charge > 0) as booked
                     from (
                              select entry_id, charge from attempt where entry_id is not null
                               union all
                              select entry_id, amount from adjustment
                          ) as rows
                    group by entry_id
               ) as booked using (entry_id)
          join entry using (entry_id)
         where entry.kind in ('attempts') and coalesce(posted.posted, 0) <> coalesce(booked.booked, 0)
        """,
    ),
}
