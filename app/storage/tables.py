"""The tables of the books, for Alembic to compare and for people to read; the statements are beside their users.

`receipt` and `attempt` are append-only (a trigger refuses everything but INSERT) and partitioned by the month of
`at`, the moment fixed with the request id. The roll-ups are fed by the same statement, from rows really inserted.
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
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

METADATA = MetaData()

MOMENT = DateTime(timezone=True)
TEXTS = ARRAY(Text)
BRIN_PAGES = 32
#: More than this is no count of tokens and no charge of one attempt (ten million dollars); such a row is refused,
#: before it can make the sums of its hour overflow.
TOKENS_MOST = 10**12
CHARGE_MOST = 10**16

HOSTINGS = "('self_hosted', 'managed')"
OUTCOMES = "('complete', 'abandoned', 'broken', 'refused', 'interrupted')"
USAGE_SOURCES = "('provider_final', 'provider_partial', 'gateway_estimate', 'checkpoint', 'nothing_sent')"


def _needed(name: str, kind: object) -> Column[object]:
    return Column(name, kind, nullable=False)  # type: ignore[arg-type]


def _optional(name: str, kind: object) -> Column[object]:
    return Column(name, kind)  # type: ignore[arg-type]


def _who_asked() -> list[Column[object]]:
    return [_needed(name, Text) for name in ("key_id", "team", "cost_centre", "model")]


def _booked_at() -> Column[object]:
    return Column("booked_at", MOMENT, nullable=False, server_default=text("now()"))


def _indexes(table: str) -> list[Index]:
    return [
        Index(f"{table}_at", "at", postgresql_using="brin", postgresql_with={"pages_per_range": BRIN_PAGES}),
        Index(f"{table}_key_id_at", "key_id", "at"),
    ]


def _sums() -> list[Column[object]]:
    return [_needed(name, BigInteger) for name in SUMS]


#: The additive figures of a roll-up, named as in `domain.ledger.report.Sums`; decode time in whole microseconds.
SUMS = (
    "requests",
    "attempts",
    "complete",
    "abandoned",
    "broken",
    "refused",
    "interrupted",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "reasoning_tokens",
    "estimated_attempts",
    "charge",
    "decode_tokens",
    "decode_us",
)

RECEIPT = Table(
    "receipt",
    METADATA,
    _needed("request_id", Uuid),
    _needed("at", MOMENT),
    *_who_asked(),
    _needed("endpoint", Text),
    _needed("stream", Boolean),
    _optional("caller_label", Text),
    _needed("policy_digest", Text),
    _optional("rule", Text),
    _needed("target", Text),
    _needed("hosting", Text),
    _needed("outcome", Text),
    _needed("status", Integer),
    _needed("attempts", Integer),
    _needed("charge", BigInteger),
    _needed("duration_s", Double),
    _needed("overhead_s", Double),
    _needed("flags", TEXTS),
    _needed("facts", JSONB),
    _needed("decision", JSONB),
    _booked_at(),
    _optional("shadow_of", Uuid),
    PrimaryKeyConstraint("request_id", "at"),
    CheckConstraint(f"outcome in {OUTCOMES}", name="receipt_outcome"),
    *_indexes("receipt"),
    postgresql_partition_by="range (at)",
)

ATTEMPT = Table(
    "attempt",
    METADATA,
    _needed("attempt_id", Text),
    Column("kind", Text, nullable=False, server_default=text("'settled'")),
    _needed("at", MOMENT),
    _needed("request_id", Uuid),
    _needed("number", Integer),
    *_who_asked(),
    _needed("target", Text),
    _needed("hosting", Text),
    _needed("target_kind", Text),
    _needed("upstream_model", Text),
    _needed("outcome", Text),
    _optional("fault", Text),
    _optional("fault_message", Text),
    _optional("status", Integer),
    _optional("provider_request_id", Text),
    _needed("started_at", MOMENT),
    _needed("prompt_tokens", BigInteger),
    _needed("cached_tokens", BigInteger),
    _needed("output_tokens", BigInteger),
    _needed("reasoning_tokens", BigInteger),
    _needed("usage_source", Text),
    _needed("content_events", BigInteger),
    _optional("ttft_s", Double),
    _optional("tpot_s", Double),
    _needed("duration_s", Double),
    _needed("policy_digest", Text),
    _needed("rate_card_digest", Text),
    _needed("price_prompt", Numeric),
    _needed("price_cached_prompt", Numeric),
    _needed("price_output", Numeric),
    _needed("charge", BigInteger),
    _needed("flags", TEXTS),
    _booked_at(),
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
    _needed("hour", MOMENT),
    *(_needed(name, Text) for name in ("team", "cost_centre", "model", "target", "hosting")),
    *_sums(),
    _needed("shadow", Boolean),
    PrimaryKeyConstraint("hour", "team", "cost_centre", "model", "target", "hosting", "shadow"),
)

#: For reports by key: a row a day keeps it small.
USAGE_DAY_KEY = Table(
    "usage_day_key",
    METADATA,
    _needed("day", Date),
    *(_needed(name, Text) for name in ("key_id", "team", "cost_centre", "model", "target", "hosting")),
    *_sums(),
    _needed("shadow", Boolean),
    PrimaryKeyConstraint("day", "key_id", "team", "cost_centre", "model", "target", "hosting", "shadow"),
)

#: Percentiles cannot be added up, counts can: `bucket` is that of `domain.ledger.report`.
LATENCY_HOUR = Table(
    "latency_hour",
    METADATA,
    _needed("hour", MOMENT),
    *(_needed(name, Text) for name in ("team", "cost_centre", "model", "target", "hosting", "metric")),
    Column("bucket", Integer, nullable=False, autoincrement=False),
    _needed("n", BigInteger),
    _needed("shadow", Boolean),
    PrimaryKeyConstraint("hour", "team", "cost_centre", "model", "target", "hosting", "metric", "bucket", "shadow"),
)

#: Never the key itself. Times are Unix seconds, exactly as they were given.
VIRTUAL_KEY = Table(
    "virtual_key",
    METADATA,
    Column("key_id", Text, primary_key=True),
    _needed("name", Text),
    _needed("digest", LargeBinary),
    _needed("pepper_version", Integer),
    _needed("team", Text),
    _needed("cost_centre", Text),
    _needed("tags", TEXTS),
    _optional("models", TEXTS),
    _optional("expires_at_s", Double),
    _needed("created_at_s", Double),
    _optional("revoked_at_s", Double),
)

MEASURED_RATES = Table(
    "measured_rates",
    METADATA,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _needed("target", Text),
    _needed("prefill_tokens_per_s", Numeric),
    _needed("decode_tokens_per_s", Numeric),
    _needed("model", Text),
    _needed("engine_version", Text),
    _needed("measured_at_s", BigInteger),
    _needed("concurrency", Integer),
    Index("measured_rates_target_newest", "target", text("measured_at_s desc"), text("id desc")),
)

#: Append-only but for the first time in force, which a trigger watches. `json` keeps texts as they were given, whatever
#: letters a refused file holds.
POLICY_REVISION = Table(
    "policy_revision",
    METADATA,
    Column("number", BigInteger, Identity(always=True), nullable=False),
    Column("digest", Text, primary_key=True),
    _needed("files", JSON),
    _needed("author", Text),
    _needed("seen_at_s", Double),
    _optional("in_force_at_s", Double),
    _needed("findings", JSON),
    CheckConstraint("digest ~ '^[0-9a-f]{16}$'", name="policy_revision_digest"),
    Index("policy_revision_newest", text("seen_at_s desc"), text("number desc")),
)

#: One row at most: `single` is true and unique.
POLICY_PIN = Table(
    "policy_pin",
    METADATA,
    Column("single", Boolean, primary_key=True, server_default=text("true")),
    Column("digest", Text, ForeignKey("policy_revision.digest"), nullable=False),
    _needed("by", Text),
    _needed("pinned_at_s", Double),
    CheckConstraint("single", name="policy_pin_single"),
)
