"""The database's form, brought to this version. A module of its own: what it loads, no gateway needs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from app.domain.errors import SetupError
from app.ports import BooksAway
from app.storage import migrate as migrations


def migrate(url: str) -> tuple[str, ...]:
    """Bring the database to this version; the partitions that are there now. Raises SetupError."""
    try:
        return asyncio.run(migrations.migrate(url, now=datetime.now(UTC)))
    except BooksAway as fault:
        raise SetupError(str(fault)) from fault
