"""Requests that came with an idempotency key: by names that say nothing, and with answers that only their callers can
read (`domain.repeat`). Gone a day later."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, LargeBinary, PrimaryKeyConstraint, Table, Text, Uuid, text

from app.storage.tables.metadata import METADATA, MOMENT, needed, optional

REPEAT = Table(
    "repeat",
    METADATA,
    needed("key_id", Text),
    needed("name", LargeBinary),
    needed("fingerprint", LargeBinary),
    needed("request_id", Uuid),
    optional("interrupted", Uuid),
    needed("holder", Text),
    Column("state", Text, nullable=False, server_default=text("'running'")),
    Column("claimed_at", MOMENT, nullable=False, server_default=text("now()")),
    needed("expires_at", MOMENT),
    optional("answer", LargeBinary),
    PrimaryKeyConstraint("key_id", "name"),
    CheckConstraint("state in ('running', 'kept', 'told')", name="repeat_state"),
    CheckConstraint("(state = 'kept') = (answer is not null)", name="repeat_kept"),
    CheckConstraint("length(answer) <= 1050000", name="repeat_answer"),
    Index("repeat_running", "holder", postgresql_where=text("state = 'running'")),
    Index("repeat_claimed_at", "claimed_at"),
)
