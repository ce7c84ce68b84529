"""Budgets in Postgres: every process takes its leases here, and receipts settle them when they are booked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from app.domain.ledger.account import Standing
from app.domain.money import Nanodollars
from app.ports.ledger import LeaseGranted, LeaseWanted
from app.storage.budget_statements import CLOSE, STANDINGS, SWEEP, TAKE
from app.storage.engine import Database, again_when_broken_off

#: How long a lease lasts without being renewed.
LEASE_S: Final = 60.0


class PostgresBudgetBook:
    """`ports.ledger.BudgetBook` over a migrated database."""

    def __init__(self, database: Database, *, lease_s: float = LEASE_S) -> None:
        self._database = database
        self._lease_s = lease_s

    async def lease(self, wanted: Sequence[LeaseWanted], *, holder: str) -> Sequence[LeaseGranted]:
        """Take, give back and renew, in one round trip; answers in the order of `wanted`."""
        if not wanted:
            return ()
        asked = json.dumps([_asked(place, one) for place, one in enumerate(wanted)])
        answers = await again_when_broken_off(lambda: self._take(asked, holder))
        by_place = {answer["place"]: answer for answer in json.loads(answers)}
        return tuple(
            LeaseGranted(
                account=one.budget.account,
                begin=one.begin,
                granted=Nanodollars(by_place[place]["granted"]),
                standing=_standing(by_place[place]),
                expires_in_s=self._lease_s,
            )
            for place, one in enumerate(wanted)
        )

    async def _take(self, asked: str, holder: str) -> str:
        async with self._database.connection() as connection:
            return str(await connection.fetchval(TAKE, asked, holder, timedelta(seconds=self._lease_s)))

    async def sweep(self) -> int:
        """Leases past their time are lost from now on; how many."""
        async with self._database.connection() as connection:
            return int(await connection.fetchval(SWEEP))

    async def close(self, holder: str) -> int:
        """That process is gone and all its records are booked; how many leases were not closed yet."""
        async with self._database.connection() as connection:
            return int(await connection.fetchval(CLOSE, holder))

    async def standings(self, budgets: Sequence[LeaseWanted]) -> Sequence[Standing | None]:
        """How the accounts stand, in the order asked for; None for one that nobody has opened."""
        accounts = [one.budget.account for one in budgets]
        begins = [one.begin for one in budgets]
        async with self._database.connection() as connection:
            rows = await connection.fetch(STANDINGS, accounts, begins)
        found = {row["place"]: _standing(row) for row in rows}
        return tuple(found.get(place) for place in range(1, len(budgets) + 1))


def _asked(place: int, one: LeaseWanted) -> dict[str, object]:
    budget = one.budget
    return {
        "place": place,
        "account": budget.account,
        "begin_at": one.begin.isoformat(),
        "end_at": one.end.isoformat(),
        "name": budget.name,
        "team": budget.team,
        "cost_centre": budget.cost_centre,
        "key_id": budget.key,
        "model": budget.model,
        "tag": budget.tag,
        "cap": budget.amount,
        "need": one.need,
        "want": one.want,
        "returned": one.returned,
    }


def _standing(row: Any) -> Standing:
    return Standing(
        cap=Nanodollars(row["cap"]),
        spent=Nanodollars(row["spent"]),
        leased=Nanodollars(row["leased"]),
        lost=Nanodollars(row["lost"]),
        overrun=Nanodollars(row["overrun"]),
    )
