"""The tables of the books, for Alembic to compare and for people to read; the statements are beside their users."""

from __future__ import annotations

from app.storage.tables.alerts import ALERT
from app.storage.tables.budgets import BUDGET_ACCOUNT, BUDGET_GONE, BUDGET_LEASE
from app.storage.tables.curves import SERVICE_CURVE
from app.storage.tables.keys import RATE_BUCKET, RATE_PROCESS, TEAM, VIRTUAL_KEY
from app.storage.tables.ledger import ADJUSTMENT, ENTRY, MONTH_CLOSE, MONTH_SEAL, POSTING
from app.storage.tables.metadata import METADATA
from app.storage.tables.prices import PRICE, RATE_CARD, SOURCES
from app.storage.tables.receipts import ATTEMPT, HOSTINGS, OUTCOMES, RECEIPT, USAGE_SOURCES
from app.storage.tables.repeats import REPEAT

__all__ = [
    "ADJUSTMENT",
    "ALERT",
    "ATTEMPT",
    "BUDGET_ACCOUNT",
    "BUDGET_GONE",
    "BUDGET_LEASE",
    "ENTRY",
    "HOSTINGS",
    "METADATA",
    "MONTH_CLOSE",
    "MONTH_SEAL",
    "OUTCOMES",
    "POSTING",
    "PRICE",
    "RATE_BUCKET",
    "RATE_CARD",
    "RATE_PROCESS",
    "RECEIPT",
    "REPEAT",
    "SERVICE_CURVE",
    "SOURCES",
    "TEAM",
    "USAGE_SOURCES",
    "VIRTUAL_KEY",
]
