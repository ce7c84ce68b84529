"""`app.storage.adjustment_book`: corrections reach postings, roll-ups and budgets, exactly once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

from app.domain.ledger.report import CostQuery, Dimension, compiled
from app.domain.target import Hosting
from app.storage.adjustment_book import PostgresAdjustmentBook
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.receipt_json import encode
from app.storage.report_book import PostgresReportBook
from tests.books import said
from tests.ports.adjustment_book_suite import a_correction
from tests.ports.ledger_book_suite import receipt, rows

NOVEMBER = CostQuery(
    since=datetime(2026, 11, 1, tzinfo=UTC), until=datetime(2026, 12, 1, tzinfo=UTC), by=(Dimension.TEAM,)
)

ENTRY_SUMS = """
    select account, sum(amount)::bigint as amount from entry join posting using (entry_id)
     where kind = 'adjustment' group by account order by account
"""


async def test_a_correction_reaches_its_reports_and_its_postings(database: Database, books_url: str) -> None:
    given = receipt(1)
    await PostgresLedgerBook(database).book(rows([given]))
    correction = replace(a_correction(1, amount=-40), prompt_added=-7, output_added=3)
    await PostgresAdjustmentBook(database).adjust([correction])
    for by in ((Dimension.TEAM,), (Dimension.KEY, Dimension.DAY)):
        query = replace(NOVEMBER, by=by)
        books = await PostgresReportBook(database).read(query)
        total = compiled(
            query=query, lines=books.lines, by_hosting=books.by_hosting, ledger_charge=books.ledger_charge
        ).total
        usage = given.attempts[0].usage
        assert (total.requests, total.attempts) == (1, 1)
        assert (total.prompt_tokens, total.output_tokens) == (usage.prompt - 7, usage.output + 3)
        assert total.charge == given.charge - 40
    caller = given.facts.caller
    owed = "gpu_pool_clearing" if given.attempts[0].hosting is Hosting.SELF_HOSTED else "provider_payable"
    assert [tuple(row) for row in await said(books_url, ENTRY_SUMS)] == [
        (f"{owed}:{given.attempts[0].target}", 40),
        (f"team_expense:{caller.team}/{caller.cost_centre}", -40),
    ]


async def test_many_who_book_the_same_corrections_book_them_once(database: Database) -> None:
    receipts = [receipt(number) for number in range(20)]
    await PostgresLedgerBook(database).book([encode(one) for one in receipts])
    book = PostgresAdjustmentBook(database)
    booked = await asyncio.gather(*(book.adjust([a_correction(n) for n in range(first, 20)]) for first in range(6)))
    assert sum(booked) == 20
    books = await PostgresReportBook(database).read(NOVEMBER)
    assert books.ledger_charge == sum(one.charge for one in receipts) - 20 * 5


async def test_a_batch_that_is_refused_leaves_no_entry(database: Database, books_url: str) -> None:
    await PostgresLedgerBook(database).book(rows([receipt(1)]))
    book = PostgresAdjustmentBook(database)
    await asyncio.gather(book.adjust([a_correction(1), a_correction(9)]), return_exceptions=True)
    assert await said(books_url, ENTRY_SUMS) == []
