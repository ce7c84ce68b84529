"""What the books say to the accounts of budgets. The functions stand in the migration `0004_budgets`."""

from __future__ import annotations

#: "beop": the same key as in the migration. Booking takes it shared, opening an account takes it alone.
_OPENING = 0x6265_6F70

SHARED_LOCK = f"select pg_advisory_xact_lock_shared({_OPENING})"
#: For sealing a month, too: nobody books meanwhile.
LOCK_ALONE = f"select pg_advisory_xact_lock({_OPENING})"
#: $1 the ids that this transaction inserted, $2 and $3 the first and the last of their moments.
SETTLE = "select budget_settle($1::uuid[], $2, $3)"
#: $1 adjustments really inserted, as JSON: [{at, key_id, team, cost_centre, model, tags, amount}], all but the amount
#: those of the receipt that is corrected. In the transaction that inserts them, after SHARED_LOCK.
ADJUST = "select budget_adjust($1::text::jsonb)"
#: $1 what is wanted, as JSON, $2 the holder, $3 for how long.
TAKE = "select budget_take($1::text::jsonb, $2, $3)"
SWEEP = "select budget_sweep()"
CLOSE = "select budget_close($1)"
#: $1 accounts, $2 the beginnings of their periods, pair by pair.
STANDINGS = """
    select asked.place, a.cap, a.spent, a.overrun,
           coalesce(sum(l.granted - l.returned - l.used) filter (where l.state = 'open'), 0)::bigint as leased,
           coalesce(sum(l.granted - l.returned - l.used) filter (where l.state = 'lost'), 0)::bigint as lost
      from unnest($1::text[], $2::timestamptz[]) with ordinality as asked (account, begin_at, place)
      join budget_account a using (account, begin_at)
      left join budget_lease l using (account, begin_at)
     group by asked.place, a.account, a.begin_at
"""
SPENT = "select budget_spent($1, $2, $3, $4, $5, $6, $7)"
