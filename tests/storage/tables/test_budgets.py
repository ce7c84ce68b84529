"""`app.storage.tables.budgets`: what the rows of budgets refuse."""

from __future__ import annotations

import re

import asyncpg
import pytest

from app.domain.ledger.account import LeaseState
from app.storage.budget_book import PostgresBudgetBook
from app.storage.engine import Database
from app.storage.tables.budgets import BUDGET_ACCOUNT, BUDGET_LEASE
from tests.books import said
from tests.ports.budget_book_suite import wanting


def test_the_states_of_a_lease_are_the_words_of_the_domain() -> None:
    (check,) = (one for one in BUDGET_LEASE.constraints if one.name == "budget_lease_state")
    assert set(re.findall(r"'(\w+)'", str(check.sqltext))) == {state.value for state in LeaseState}  # type: ignore[attr-defined]


def test_an_account_is_one_budget_in_one_period() -> None:
    assert [column.name for column in BUDGET_ACCOUNT.primary_key] == ["account", "begin_at"]
    assert {column.name for column in BUDGET_ACCOUNT.columns if column.nullable} == {
        "team",
        "cost_centre",
        "key_id",
        "model",
        "tag",
    }


@pytest.mark.parametrize(
    "change",
    [
        "state = 'gone'",
        "used = 101",
        "used = 60, returned = 60",
        "returned = -1",
        "used = -1",
        "granted = -1",
        "state = 'closed'",
    ],
)
async def test_a_lease_never_keeps_less_than_nothing_and_a_closed_one_keeps_nothing(
    database: Database, books_url: str, change: str
) -> None:
    await PostgresBudgetBook(database).lease([wanting(need=100)], holder="h")
    with pytest.raises(asyncpg.CheckViolationError):
        await said(books_url, f"update budget_lease set {change}")


async def test_a_lease_is_of_an_account_that_is_there(books_url: str) -> None:
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await said(
            books_url,
            "insert into budget_lease (account, begin_at, holder, expires_at) values ('a', now(), 'h', now())",
        )
