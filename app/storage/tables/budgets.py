"""Budgets as accounts and the leases that processes hold of them: `domain.ledger.account` in rows."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

from app.storage.tables.metadata import METADATA, MOMENT, needed, optional

#: Many short updates of few rows: room on the page keeps them there.
ROOMY = {"fillfactor": 50}


def _nought(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


BUDGET_ACCOUNT = Table(
    "budget_account",
    METADATA,
    needed("account", Text),
    needed("begin_at", MOMENT),
    needed("end_at", MOMENT),
    needed("name", Text),
    *(optional(name, Text) for name in ("team", "cost_centre", "key_id", "model", "tag")),
    needed("cap", BigInteger),
    needed("spent", BigInteger),
    _nought("overrun"),
    Column("opened_at", MOMENT, nullable=False, server_default=text("now()")),
    PrimaryKeyConstraint("account", "begin_at"),
    CheckConstraint("begin_at < end_at", name="budget_account_period"),
    Index("budget_account_end_at", "end_at"),
    postgresql_with=ROOMY,
)

BUDGET_LEASE = Table(
    "budget_lease",
    METADATA,
    needed("account", Text),
    needed("begin_at", MOMENT),
    needed("holder", Text),
    *(_nought(name) for name in ("granted", "returned", "used")),
    needed("expires_at", MOMENT),
    Column("state", Text, nullable=False, server_default=text("'open'")),
    PrimaryKeyConstraint("account", "begin_at", "holder"),
    ForeignKeyConstraint(["account", "begin_at"], ["budget_account.account", "budget_account.begin_at"]),
    CheckConstraint("state in ('open', 'lost', 'closed')", name="budget_lease_state"),
    CheckConstraint(
        "least(granted, returned, used) >= 0 and granted - returned - used >= 0 "
        "and (state <> 'closed' or granted - returned - used = 0)",
        name="budget_lease_kept",
    ),
    Index("budget_lease_not_closed", "holder", "account", "begin_at", postgresql_where=text("state <> 'closed'")),
    postgresql_with=ROOMY,
)

#: Processes that are gone and closed: what they asked for before is not granted any more.
BUDGET_GONE = Table(
    "budget_gone",
    METADATA,
    Column("holder", Text, primary_key=True),
    needed("gone_at", MOMENT),
)
