"""What was spent of a budget, read from the books: roll-ups where a period holds whole ones, receipts at its edges.

The sum is the one that a budget's account is opened with: `budget_spent` of the migration `0004_budgets`.
"""

from __future__ import annotations

from datetime import datetime

from app.domain.budget import Budget
from app.domain.money import Nanodollars
from app.storage.budget_statements import SPENT
from app.storage.engine import Database


class PostgresSpendBook:
    """`ports.SpendBook` over a migrated database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def spent(self, budget: Budget, *, begin: datetime, end: datetime) -> Nanodollars:
        """All that is booked for the budget from `begin` until before `end`, copies for shadows included."""
        whose = (budget.team, budget.cost_centre, budget.key, budget.model, budget.tag)
        async with self._database.connection() as connection:
            return Nanodollars(await connection.fetchval(SPENT, begin, end, *whose))
