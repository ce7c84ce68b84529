"""Teams, virtual keys, and what all processes share of their limits."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.storage.tables.metadata import METADATA, MOMENT, TEXTS, needed, optional

TEAM = Table(
    "team",
    METADATA,
    Column("name", Text, primary_key=True),
    needed("cost_centre", Text),
    optional("requests_per_minute", BigInteger),
    optional("tokens_per_minute", BigInteger),
    needed("created_at_s", Double),
    CheckConstraint("requests_per_minute >= 1 and tokens_per_minute >= 1", name="team_limits"),
)

#: Never the key itself. Times are Unix seconds, exactly as they were given. `lineage` is the first of the keys that
#: followed one another.
VIRTUAL_KEY = Table(
    "virtual_key",
    METADATA,
    Column("key_id", Text, primary_key=True),
    needed("name", Text),
    needed("digest", LargeBinary),
    needed("pepper_version", Integer),
    needed("team", Text),
    needed("cost_centre", Text),
    needed("tags", TEXTS),
    optional("models", TEXTS),
    optional("expires_at_s", Double),
    needed("created_at_s", Double),
    optional("revoked_at_s", Double),
    optional("requests_per_minute", BigInteger),
    optional("tokens_per_minute", BigInteger),
    optional("lineage", Text),
    Column("successor", Text, ForeignKey("virtual_key.key_id")),
    optional("last_used_at_s", Double),
    CheckConstraint("requests_per_minute >= 1 and tokens_per_minute >= 1", name="virtual_key_limits"),
)

#: Crash of the server: empty, which means full.
RATE_BUCKET = Table(
    "rate_bucket",
    METADATA,
    Column("name", Text, primary_key=True),
    needed("level", Double),
    needed("counted_at", MOMENT),
    prefixes=["unlogged"],
)

RATE_PROCESS = Table(
    "rate_process",
    METADATA,
    Column("holder", Text, primary_key=True),
    needed("seen_at", MOMENT),
    needed("claimed", JSONB),
    prefixes=["unlogged"],
)
