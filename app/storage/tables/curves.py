"""What gateway processes have learned of how fast self-hosted targets are: `domain.capacity.learned` in rows."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Double, Table, Text, text

from app.storage.columns import LINES
from app.storage.tables.metadata import METADATA, MOMENT, needed, optional

_NEVER_NEGATIVE = ", ".join(name for name in LINES if not name.endswith("_xy"))

SERVICE_CURVE = Table(
    "service_curve",
    METADATA,
    Column("target", Text, primary_key=True),
    *(needed(name, Text) for name in ("url", "model", "kind", "engine_version")),
    *(needed(name, Double) for name in LINES),
    needed("output_tokens", Double),
    optional("ttft_ms", Double),
    Column("learned_at", MOMENT, nullable=False, server_default=text("now()")),
    # No number is larger than 'NaN' here.
    CheckConstraint(
        f"least({_NEVER_NEGATIVE}, output_tokens) >= 0 "
        f"and greatest({', '.join(LINES)}, output_tokens, ttft_ms) < 'infinity'",
        name="service_curve_numbers",
    ),
)
