"""The journal, adjustments and months: append-only, and nothing enters a month once it is sealed."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Identity,
    Index,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.storage.columns import CHARGE_MOST, TOKENS_ADDED, TOKENS_MOST
from app.storage.tables.metadata import METADATA, MOMENT, needed


def _now(name: str) -> Column[object]:
    return Column(name, MOMENT, nullable=False, server_default=text("now()"))


ENTRY = Table(
    "entry",
    METADATA,
    Column("entry_id", BigInteger, Identity(always=False), primary_key=True),
    needed("month", Date),
    needed("kind", Text),
    needed("description", Text),
    _now("booked_at"),
    CheckConstraint("month = date_trunc('month', month::timestamp)", name="entry_month"),
    CheckConstraint("kind in ('opening', 'attempts', 'adjustment', 'machine_hours')", name="entry_kind"),
    Index("entry_month_id", "month", "entry_id"),
)

#: The amounts of an entry sum to zero: a trigger looks at each statement that writes some.
POSTING = Table(
    "posting",
    METADATA,
    Column("entry_id", BigInteger, ForeignKey("entry.entry_id"), nullable=False),
    needed("account", Text),
    needed("amount", BigInteger),
    PrimaryKeyConstraint("entry_id", "account"),
)

ADJUSTMENT = Table(
    "adjustment",
    METADATA,
    Column("adjustment_id", Text, primary_key=True),
    needed("attempt_id", Text),
    needed("request_id", Uuid),
    needed("at", MOMENT),
    *(needed(name, Text) for name in ("key_id", "team", "cost_centre", "model", "target", "hosting")),
    needed("shadow", Boolean),
    needed("tags", JSONB),
    *(needed(name, Text) for name in ("reason", "by", "rate_card_digest")),
    *(needed(name, BigInteger) for name in TOKENS_ADDED),
    needed("amount", BigInteger),
    _now("booked_at"),
    needed("booked_for", MOMENT),
    Column("entry_id", BigInteger, ForeignKey("entry.entry_id"), nullable=False),
    CheckConstraint(f"abs(amount) <= {CHARGE_MOST}", name="adjustment_amount"),
    CheckConstraint(
        f"greatest({', '.join(f'abs({name})' for name in TOKENS_ADDED)}) <= {TOKENS_MOST}", name="adjustment_tokens"
    ),
    *(Index(f"adjustment_{name}", name) for name in ("at", "booked_for", "attempt_id")),
)

#: From here on nothing is booked into that month. Months are sealed one after the other.
MONTH_SEAL = Table(
    "month_seal",
    METADATA,
    Column("month", Date, primary_key=True),
    needed("by", Text),
    _now("sealed_at"),
    CheckConstraint("month = date_trunc('month', month::timestamp)", name="month_seal_month"),
)

#: What a sealed month holds, and the digest over it and over the month before.
MONTH_CLOSE = Table(
    "month_close",
    METADATA,
    Column("month", Date, ForeignKey("month_seal.month"), primary_key=True),
    needed("parts", JSONB),
    needed("previous", Text),
    needed("digest", Text),
    _now("closed_at"),
)
