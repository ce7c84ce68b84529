"""The tables of the books, for Alembic to compare and for people to read; the statements are beside their users.

`receipt` and `attempt` are append-only (a trigger refuses everything but INSERT) and partitioned by the month of
`at`, the moment fixed with the request id. What was late for its month, because that was sealed, counts for the moment
`booked_for`; where that is null, for `at`. The roll-ups are fed by the same statement, from rows really inserted.
Money is whole nanodollars in a bigint, prices are USD per million tokens, days and hours are UTC.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.storage.columns import CHARGE_MOST, SUMS, TOKENS_MOST
from app.storage.tables.metadata import METADATA, MOMENT, TEXTS, needed, optional

BRIN_PAGES = 32

HOSTINGS = "('self_hosted', 'managed')"
OUTCOMES = "('complete', 'abandoned', 'broken', 'refused', 'interrupted')"
USAGE_SOURCES = (
    "('provider_final', 'provider_partial', 'gateway_tokenizer', 'gateway_estimate', 'checkpoint', 'hold', "
    "'nothing_sent')"
)


def _who_asked() -> list[Column[object]]:
    return [needed(name, Text) for name in ("key_id", "team", "cost_centre", "model")]


def _booked_at() -> Column[object]:
    return Column("booked_at", MOMENT, nullable=False, server_default=text("now()"))


def _indexes(table: str) -> list[Index]:
    return [
        Index(
            f"{table}_at",
            "at",
            postgresql_using="brin",
            postgresql_with={"pages_per_range": BRIN_PAGES, "autosummarize": True},
        ),
        Index(f"{table}_key_id_at", "key_id", "at"),
        Index(f"{table}_late", "booked_for", postgresql_where=text("booked_for is not null")),
    ]


def _sums() -> list[Column[object]]:
    return [needed(name, BigInteger) for name in SUMS]


RECEIPT = Table(
    "receipt",
    METADATA,
    needed("request_id", Uuid),
    needed("at", MOMENT),
    *_who_asked(),
    needed("endpoint", Text),
    needed("stream", Boolean),
    optional("caller_label", Text),
    needed("policy_digest", Text),
    optional("rule", Text),
    needed("target", Text),
    needed("hosting", Text),
    needed("outcome", Text),
    needed("status", Integer),
    needed("attempts", Integer),
    needed("charge", BigInteger),
    needed("duration_s", Double),
    needed("overhead_s", Double),
    needed("flags", TEXTS),
    needed("facts", JSONB),
    needed("decision", JSONB),
    _booked_at(),
    optional("shadow_of", Uuid),
    Column("holds", JSONB, nullable=False, server_default=text("'[]'")),
    optional("booked_for", MOMENT),
    PrimaryKeyConstraint("request_id", "at"),
    CheckConstraint(f"outcome in {OUTCOMES}", name="receipt_outcome"),
    *_indexes("receipt"),
    postgresql_partition_by="range (at)",
)

ATTEMPT = Table(
    "attempt",
    METADATA,
    needed("attempt_id", Text),
    Column("kind", Text, nullable=False, server_default=text("'settled'")),
    needed("at", MOMENT),
    needed("request_id", Uuid),
    needed("number", Integer),
    *_who_asked(),
    needed("target", Text),
    needed("hosting", Text),
    needed("target_kind", Text),
    needed("upstream_model", Text),
    needed("outcome", Text),
    optional("fault", Text),
    optional("fault_message", Text),
    optional("status", Integer),
    optional("provider_request_id", Text),
    needed("started_at", MOMENT),
    needed("prompt_tokens", BigInteger),
    needed("cached_tokens", BigInteger),
    needed("output_tokens", BigInteger),
    needed("reasoning_tokens", BigInteger),
    needed("usage_source", Text),
    needed("content_events", BigInteger),
    optional("ttft_s", Double),
    optional("tpot_s", Double),
    needed("duration_s", Double),
    needed("policy_digest", Text),
    needed("rate_card_digest", Text),
    needed("price_prompt", Numeric),
    needed("price_cached_prompt", Numeric),
    needed("price_output", Numeric),
    needed("charge", BigInteger),
    needed("flags", TEXTS),
    _booked_at(),
    *(
        Column(name, BigInteger, nullable=False, server_default=text("0"))
        for name in (
            "cache_write_tokens",
            "cache_write_1h_tokens",
            "audio_prompt_tokens",
            "audio_output_tokens",
            "searches",
        )
    ),
    Column("service_tier", Text, nullable=False, server_default=text("''")),
    optional("booked_for", MOMENT),
    optional("entry_id", BigInteger),
    PrimaryKeyConstraint("attempt_id", "kind", "at"),
    CheckConstraint(f"outcome in {OUTCOMES}", name="attempt_outcome"),
    CheckConstraint(f"usage_source in {USAGE_SOURCES}", name="attempt_usage_source"),
    CheckConstraint(f"hosting in {HOSTINGS}", name="attempt_hosting"),
    CheckConstraint(
        "least(price_prompt, price_cached_prompt, price_output) >= 0 "
        "and greatest(price_prompt, price_cached_prompt, price_output) < 'infinity'",
        name="attempt_prices",
    ),
    CheckConstraint(
        f"least(prompt_tokens, cached_tokens, output_tokens, reasoning_tokens) >= 0 "
        f"and greatest(prompt_tokens, cached_tokens, output_tokens, reasoning_tokens) <= {TOKENS_MOST}",
        name="attempt_tokens",
    ),
    CheckConstraint(f"abs(charge) <= {CHARGE_MOST}", name="attempt_charge"),
    *_indexes("attempt"),
    postgresql_partition_by="range (at)",
)

#: For every report that is not by key. Here and in the other roll-ups `shadow` keeps copies for shadows apart.
USAGE_HOUR = Table(
    "usage_hour",
    METADATA,
    needed("hour", MOMENT),
    *(needed(name, Text) for name in ("team", "cost_centre", "model", "target", "hosting")),
    *_sums(),
    needed("shadow", Boolean),
    PrimaryKeyConstraint("hour", "team", "cost_centre", "model", "target", "hosting", "shadow"),
)

#: For reports by key: a row a day keeps it small.
USAGE_DAY_KEY = Table(
    "usage_day_key",
    METADATA,
    needed("day", Date),
    *(needed(name, Text) for name in ("key_id", "team", "cost_centre", "model", "target", "hosting")),
    *_sums(),
    needed("shadow", Boolean),
    PrimaryKeyConstraint("day", "key_id", "team", "cost_centre", "model", "target", "hosting", "shadow"),
)

#: Percentiles cannot be added up, counts can: `bucket` is that of `domain.ledger.report`.
LATENCY_HOUR = Table(
    "latency_hour",
    METADATA,
    needed("hour", MOMENT),
    *(needed(name, Text) for name in ("team", "cost_centre", "model", "target", "hosting", "metric")),
    Column("bucket", Integer, nullable=False, autoincrement=False),
    needed("n", BigInteger),
    needed("shadow", Boolean),
    PrimaryKeyConstraint("hour", "team", "cost_centre", "model", "target", "hosting", "metric", "bucket", "shadow"),
)

MEASURED_RATES = Table(
    "measured_rates",
    METADATA,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    needed("target", Text),
    needed("prefill_tokens_per_s", Numeric),
    needed("decode_tokens_per_s", Numeric),
    needed("model", Text),
    needed("engine_version", Text),
    needed("measured_at_s", BigInteger),
    needed("concurrency", Integer),
    Index("measured_rates_target_newest", "target", text("measured_at_s desc"), text("id desc")),
)

#: Append-only but for the first time in force, which a trigger watches. `json` keeps texts as they were given, whatever
#: letters a refused file holds.
POLICY_REVISION = Table(
    "policy_revision",
    METADATA,
    Column("number", BigInteger, Identity(always=True), nullable=False),
    Column("digest", Text, primary_key=True),
    needed("files", JSON),
    needed("author", Text),
    needed("seen_at_s", Double),
    optional("in_force_at_s", Double),
    needed("findings", JSON),
    CheckConstraint("digest ~ '^[0-9a-f]{16}$'", name="policy_revision_digest"),
    Index("policy_revision_newest", text("seen_at_s desc"), text("number desc")),
)

#: One row at most: `single` is true and unique.
POLICY_PIN = Table(
    "policy_pin",
    METADATA,
    Column("single", Boolean, primary_key=True, server_default=text("true")),
    Column("digest", Text, ForeignKey("policy_revision.digest"), nullable=False),
    needed("by", Text),
    needed("pinned_at_s", Double),
    CheckConstraint("single", name="policy_pin_single"),
)
