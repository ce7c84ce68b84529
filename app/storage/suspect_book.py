"""The requests in Postgres whose usage cannot be true."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from app.domain.ledger.receipt import Receipt
from app.domain.usage import USAGE_SUSPECT
from app.storage.engine import Database
from app.storage.ledger_statements import FLAGGED
from app.storage.receipt_json import decode


class PostgresSuspectBook:
    """`ports.ledger.SuspectBook` over a migrated database. It reads the attempts since then, not an index."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def suspicious(self, *, since: datetime, most: int) -> Sequence[Receipt]:
        """Those with an attempt flagged `usage_suspect`, the newest first."""
        if most <= 0:
            return ()
        async with self._database.connection() as connection:
            rows = await connection.fetch(FLAGGED, since, USAGE_SUSPECT, most)
        return tuple(decode(row["receipt"]) for row in rows)
