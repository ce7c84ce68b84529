"""What every table is made of: one METADATA for all, and columns said briefly."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, MetaData, Text
from sqlalchemy.dialects.postgresql import ARRAY

METADATA = MetaData()

MOMENT = DateTime(timezone=True)
TEXTS = ARRAY(Text)


def needed(name: str, kind: object) -> Column[object]:
    """A column that is never null."""
    return Column(name, kind, nullable=False)  # type: ignore[arg-type]


def optional(name: str, kind: object) -> Column[object]:
    """A column that may be null."""
    return Column(name, kind)  # type: ignore[arg-type]
