"""The outbox of alerts: what was raised, and what became of it."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, Table, Text, UniqueConstraint, Uuid, text

from app.storage.tables.metadata import METADATA, MOMENT, needed, optional

ALERT = Table(
    "alert",
    METADATA,
    Column("alert_id", Uuid, primary_key=True),
    needed("account", Text),
    needed("begin_at", MOMENT),
    needed("end_at", MOMENT),
    needed("kind", Text),
    needed("threshold_ppm", Integer),
    needed("amount", BigInteger),
    needed("budget", Text),
    needed("spent", BigInteger),
    optional("used_up_at", MOMENT),
    needed("raised_at", MOMENT),
    Column("kept_at", MOMENT, nullable=False, server_default=text("now()")),
    Column("state", Text, nullable=False, server_default=text("'waiting'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_at", MOMENT, nullable=False, server_default=text("now()")),
    optional("last_error", Text),
    optional("delivered_at", MOMENT),
    UniqueConstraint("account", "begin_at", "kind", "threshold_ppm", "amount", name="alert_once"),
    CheckConstraint("kind in ('spent', 'forecast')", name="alert_kind"),
    CheckConstraint("state in ('waiting', 'delivered', 'dead')", name="alert_state"),
    CheckConstraint("(state = 'delivered') = (delivered_at is not null)", name="alert_delivered"),
    Index("alert_waiting", "next_at", postgresql_where=text("state = 'waiting'")),
    Index("alert_kept_at", "kept_at"),
)
