"""`app.storage.report_statements`: the rows of an earlier report, in the columns of the roll-ups it stands in for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app.domain.ledger.receipt import HEDGE_LOST
from app.domain.ledger.report import CostQuery, Dimension
from app.storage.columns import SUMS
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.report_book import PostgresReportBook
from app.storage.report_statements import LATENCY_AS_IT_WAS, LEDGER_CHARGE_AS_IT_WAS, USAGE_AS_IT_WAS
from tests.ports.ledger_book_suite import receipt, rows

SINCE, UNTIL = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
SOON = timedelta(days=1)


async def test_every_sum_of_the_roll_ups_is_given_by_the_rows_they_were_made_of(database: Database) -> None:
    await PostgresLedgerBook(database).book(rows([receipt(number) for number in range(5)]))
    later = datetime.now(UTC) + SOON
    sums = ", ".join(f"sum({name})::bigint as {name}" for name in SUMS)
    async with database.connection() as connection:
        kept = await connection.fetchrow(f"select {sums} from usage_hour")
        read = await connection.fetchrow(f"select {sums} from {USAGE_AS_IT_WAS}", SINCE, UNTIL, None, later)
        charge = await connection.fetchval(LEDGER_CHARGE_AS_IT_WAS, SINCE, UNTIL, None, later)
    assert dict(read) == dict(kept)
    assert kept["requests"] == 5
    assert charge == kept["charge"] > 0


async def test_the_histograms_are_those_that_were_kept(database: Database) -> None:
    slow = receipt(9)
    (answered,) = slow.attempts
    lost = replace(
        answered, attempt_id=f"{slow.request_id}/2", number=2, target="beside", ttft_s=9.0, flags=(HEDGE_LOST,)
    )
    hedged = replace(slow, attempts=(answered, lost))
    await PostgresLedgerBook(database).book(rows([*(receipt(number) for number in range(5)), hedged]))
    query = CostQuery(since=SINCE, until=UNTIL, by=(Dimension.TARGET,))
    then = CostQuery(since=SINCE, until=UNTIL, by=(Dimension.TARGET,), as_of=datetime.now(UTC) + SOON)
    book = PostgresReportBook(database)
    lines = (await book.read(query)).lines
    assert (await book.read(then)).lines == lines
    (beside,) = (line for line in lines if line.group[0] == "beside")
    assert (beside.sums.requests, beside.sums.attempts) == (0, 1), "the request is the target's that answered"
    assert "width_bucket" in LATENCY_AS_IT_WAS


async def test_what_was_booked_after_the_moment_is_in_none_of_them(database: Database) -> None:
    before = datetime.now(UTC) - SOON
    await PostgresLedgerBook(database).book(rows([receipt(1)]))
    async with database.connection() as connection:
        assert await connection.fetchval(f"select count(*) from {USAGE_AS_IT_WAS}", SINCE, UNTIL, None, before) == 0
        assert await connection.fetchval(LEDGER_CHARGE_AS_IT_WAS, SINCE, UNTIL, None, before) == 0
