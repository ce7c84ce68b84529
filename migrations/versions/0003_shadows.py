"""Copies for shadows: a receipt says what it is a copy of, and roll-ups keep copies apart from answers."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

#: Table → its key before.
ROLL_UPS = {
    "usage_hour": "hour, team, cost_centre, model, target, hosting",
    "usage_day_key": "day, key_id, team, cost_centre, model, target, hosting",
    "latency_hour": "hour, team, cost_centre, model, target, hosting, metric, bucket",
}

#: A view may only gain columns at its end.
FINANCE_USAGE = """
create or replace view finance_usage with (security_invoker = true) as
select hour, (hour at time zone 'UTC')::date as day_utc, team, cost_centre, model, target, hosting,
       requests, attempts, complete, abandoned, broken, refused, interrupted,
       prompt_tokens, cached_tokens, output_tokens, reasoning_tokens, estimated_attempts,
       (charge / 1000000000::numeric)::numeric(28, 9) as charge_usd,
       shadow
  from usage_hour
"""


def _apart(table: str, key: str) -> tuple[str, ...]:
    """Nothing booked so far was a copy. The default is for those rows alone."""
    return (
        f"alter table {table} add column shadow boolean not null default false",
        f"alter table {table} alter column shadow drop default",
        f"alter table {table} drop constraint {table}_pkey, add primary key ({key}, shadow)",
    )


def upgrade() -> None:
    op.execute("alter table receipt add column shadow_of uuid")
    for table, key in ROLL_UPS.items():
        for statement in _apart(table, key):
            op.execute(statement)
    op.execute(FINANCE_USAGE)
