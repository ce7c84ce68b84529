"""Requests that came with an idempotency key, for a day."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"

REPEAT = """
create table repeat (
    key_id      text not null,
    name        bytea not null,
    fingerprint bytea not null,
    request_id  uuid not null,
    interrupted uuid,
    holder      text not null,
    state       text not null default 'running',
    claimed_at  timestamptz not null default now(),
    expires_at  timestamptz not null,
    answer      bytea,
    primary key (key_id, name),
    constraint repeat_state check (state in ('running', 'kept', 'told')),
    constraint repeat_kept check ((state = 'kept') = (answer is not null)),
    constraint repeat_answer check (length(answer) <= 1050000)
)
"""

STATEMENTS = (
    REPEAT,
    # What is sealed cannot be made smaller.
    "alter table repeat alter column answer set storage external",
    "create index repeat_running on repeat (holder) where state = 'running'",
    "create index repeat_claimed_at on repeat (claimed_at)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
