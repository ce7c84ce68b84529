"""`app.storage.report_book`: one snapshot, whatever is booked meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

from app.domain.ledger.report import CostQuery, Dimension, compiled
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.receipt_json import encode
from app.storage.report_book import PostgresReportBook
from tests.makers import a_receipt, an_attempt

NOVEMBER = CostQuery(since=datetime(2026, 11, 1, tzinfo=UTC), until=datetime(2026, 12, 1, tzinfo=UTC))


async def test_a_report_read_while_batches_are_booked_always_adds_up(database: Database) -> None:
    book, reports = PostgresLedgerBook(database), PostgresReportBook(database)
    query = replace(NOVEMBER, by=(Dimension.TEAM, Dimension.HOUR))

    async def write() -> None:
        for number in range(60):
            identity = f"019ab000-0000-7000-8000-{number:012x}"
            attempt = an_attempt(attempt_id=f"{identity}/1")
            await book.book([encode(a_receipt(attempt, request_id=identity))])

    seen = []
    async with asyncio.TaskGroup() as together:
        writing = together.create_task(write())
        while not writing.done():
            books = await reports.read(query)
            report = compiled(
                query=query, lines=books.lines, by_hosting=books.by_hosting, ledger_charge=books.ledger_charge
            )
            seen.append(report.total.requests)
    assert seen == sorted(seen)
    books = await reports.read(query)
    assert sum(line.sums.requests for line in books.lines) == 60


async def test_what_is_asked_for_is_a_value_never_a_piece_of_a_statement(database: Database) -> None:
    hostile = "cc'; drop table attempt; --"
    books = await PostgresReportBook(database).read(replace(NOVEMBER, cost_centres=frozenset({hostile})))
    assert books.lines == ()
    assert (await PostgresReportBook(database).read(NOVEMBER)).ledger_charge == 0
