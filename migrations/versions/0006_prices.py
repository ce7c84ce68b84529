"""Every rate card that was ever in force, by its digest, and who had it from when to when."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"

RATE_CARD = """
create table rate_card (
    digest       text primary key,
    list         jsonb not null,
    origin       text not null,
    first_seen_s bigint not null,
    constraint rate_card_digest check (digest ~ '^[0-9a-f]{16}$')
)
"""

PRICE = """
create table price (
    id           bigint generated always as identity primary key,
    name         text not null,
    model        text not null,
    source       text not null,
    digest       text not null references rate_card (digest),
    valid_from   date,
    valid_to     date,
    origin       text not null,
    first_seen_s bigint not null,
    constraint price_source check (source in ('policy', 'measured', 'catalogue')),
    constraint price_once unique nulls not distinct (name, model, source, digest, valid_from, valid_to)
)
"""

BY_DIGEST = "create index price_digest on price (digest)"


def upgrade() -> None:
    for statement in (RATE_CARD, PRICE, BY_DIGEST):
        op.execute(statement)
    for table in ("rate_card", "price"):
        op.execute(
            f"create trigger {table}_kept before update or delete or truncate on {table} "
            "for each statement execute function refuse_change()"
        )
