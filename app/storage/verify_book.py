"""The books prove themselves: every invariant is looked at on one snapshot, and nothing is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from app.domain.ledger.invariants import Checked, Invariant
from app.storage.engine import Database
from app.storage.verify_statements import STATEMENTS

#: A check may have to read every row there is.
TIMEOUT_S = 3_600.0


class PostgresVerifyBook:
    """`ports.ledger.VerifyBook` over a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def checks(self, *, soft_accounts: Collection[str] = ()) -> AsyncIterator[Checked]:
        """One invariant after the other, in their order."""
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            for invariant, statement in STATEMENTS.items():
                values = (list(soft_accounts),) if invariant is Invariant.WITHIN_CAP else ()
                (row,) = await connection.fetch(statement, *values, timeout=TIMEOUT_S)
                yield Checked(
                    invariant=invariant, rows=row["rows"], violations=row["violations"], named=tuple(row["named"])
                )
