"""Prices as they were first seen: the cards by digest, and who had them from when to when."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Identity,
    Index,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.storage.tables.metadata import METADATA, needed, optional

SOURCES = "('policy', 'measured', 'catalogue')"

#: Append-only. `list` is the whole price list, each price an exact decimal as text.
RATE_CARD = Table(
    "rate_card",
    METADATA,
    Column("digest", Text, primary_key=True),
    needed("list", JSONB),
    needed("origin", Text),
    needed("first_seen_s", BigInteger),
    CheckConstraint("digest ~ '^[0-9a-f]{16}$'", name="rate_card_digest"),
)

#: Append-only. `name` is a target's, or the catalogue's `seller/model`; days are UTC, the last one not included.
PRICE = Table(
    "price",
    METADATA,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    needed("name", Text),
    needed("model", Text),
    needed("source", Text),
    Column("digest", Text, ForeignKey("rate_card.digest"), nullable=False),
    optional("valid_from", Date),
    optional("valid_to", Date),
    needed("origin", Text),
    needed("first_seen_s", BigInteger),
    CheckConstraint(f"source in {SOURCES}", name="price_source"),
    UniqueConstraint(
        "name",
        "model",
        "source",
        "digest",
        "valid_from",
        "valid_to",
        name="price_once",
        postgresql_nulls_not_distinct=True,
    ),
    Index("price_digest", "digest"),
)
