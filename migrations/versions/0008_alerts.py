"""The outbox of alerts: each is raised once for its budget, period, kind and threshold; for a larger amount, again."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"

ALERT = """
create table alert (
    alert_id      uuid primary key,
    account       text not null,
    begin_at      timestamptz not null,
    end_at        timestamptz not null,
    kind          text not null,
    threshold_ppm integer not null,
    amount        bigint not null,
    budget        text not null,
    spent         bigint not null,
    used_up_at    timestamptz,
    raised_at     timestamptz not null,
    kept_at       timestamptz not null default now(),
    state         text not null default 'waiting',
    attempts      integer not null default 0,
    next_at       timestamptz not null default now(),
    last_error    text,
    delivered_at  timestamptz,
    constraint alert_once unique (account, begin_at, kind, threshold_ppm, amount),
    constraint alert_kind check (kind in ('spent', 'forecast')),
    constraint alert_state check (state in ('waiting', 'delivered', 'dead')),
    constraint alert_delivered check ((state = 'delivered') = (delivered_at is not null))
)
"""

INDEXES = (
    "create index alert_waiting on alert (next_at) where state = 'waiting'",
    "create index alert_kept_at on alert (kept_at)",
)


def upgrade() -> None:
    for statement in (ALERT, *INDEXES):
        op.execute(statement)
