"""What the books cost: receipts booked per second by one writer, and a report of a month of millions of attempts.

`python -m tests.bench.books --receipts 15000 --attempts 5000000 --recover 100000`. The server is an embedded one with
fsync on. `--recover`: a process dies with so many receipts in its spool, and its successor books them all.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import asyncpg

from app.domain.ledger.month import Month
from app.domain.ledger.report import CostQuery, Dimension
from app.domain.money import Nanodollars
from app.domain.target import Hosting
from app.flows.ship import drain
from app.storage.columns import SUMS
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.migrate import migrate
from app.storage.month_book import PostgresMonthBook
from app.storage.receipt_json import decode, encode
from app.storage.report_book import PostgresReportBook
from app.storage.spool import Spool
from app.system import SystemClock
from app.telemetry.metrics import Gauges, PrometheusReadings
from tests.makers import NOON, a_caller, a_receipt, an_attempt, some_facts
from tests.postgres import own_server

BATCH = 500
OCTOBER = Month(year=2026, number=10)

#: 40 teams, 4 targets and 6 models in each of the month's 744 hours: as many roll-up rows as a busy house has.
ROLL_UPS = f"""
    insert into usage_hour (hour, team, cost_centre, model, target, hosting, {", ".join(SUMS)}, shadow)
    select hour, 'team' || team, 'cc' || team % 9, 'model' || model, 'target' || target, 'managed',
           {", ".join("n * 1000" if name == "charge" else "n" for name in SUMS)}, false
      from generate_series($1::timestamptz, $2::timestamptz - interval '1 hour', interval '1 hour') as hour,
           generate_series(1, 40) as team, generate_series(1, 4) as target, generate_series(1, 6) as model,
           lateral (select greatest($3 / (744 * 40 * 4 * 6), 1) as n) as share
"""
ATTEMPTS = """
    insert into attempt (attempt_id, at, request_id, number, key_id, team, cost_centre, model, target, hosting,
                         target_kind, upstream_model, outcome, started_at, prompt_tokens, cached_tokens, output_tokens,
                         reasoning_tokens, usage_source, content_events, duration_s, policy_digest, rate_card_digest,
                         price_prompt, price_cached_prompt, price_output, charge, flags, entry_id)
    select n || '/1', $1::timestamptz + n * ($2::timestamptz - $1::timestamptz) / $3,
           '019ab000-0000-7000-8000-000000000001', 1, 'key' || n % 500, 'team' || n % 40, 'cc' || n % 9, 'model',
           'target' || n % 4, 'managed', 'openai', 'm', 'complete', $1, 900, 0, 300, 0, 'provider_final', 300, 2.0,
           '0123456789abcdef', '0123456789abcdef', 1, 1, 2, 1000, '{}', 1
      from generate_series(0, $3::bigint - 1) as n
"""
PARTITION = """
    create table attempt_2026_10 partition of attempt
        for values from ('2026-10-01 00:00:00+00') to ('2026-11-01 00:00:00+00')
"""
BY_TEAM_AND_DAY = """
    select team, (hour at time zone 'UTC')::date, sum(charge) from usage_hour
     where hour >= $1 and hour < $2 group by 1, 2
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.books")
    parser.add_argument("--receipts", type=int, default=15_000)
    parser.add_argument("--attempts", type=int, default=0)
    parser.add_argument("--recover", type=int, default=0)
    args = parser.parse_args()
    with own_server() as own:
        own.server.ensure_database("books")
        return asyncio.run(_measure(own.server.url("books"), args))


async def _measure(url: str, args: argparse.Namespace) -> int:
    await migrate(url, now=NOON)
    async with Database(url, command_timeout_s=600) as database:
        await _shipping(database, args.receipts)
        if args.recover:
            await _recovering(database, first=args.receipts, count=args.recover)
        if args.attempts:
            await _reading(url, database, args.attempts)
    return 0


async def _shipping(database: Database, count: int) -> None:
    book = PostgresLedgerBook(database)
    batches = [[_receipt(n) for n in range(first, min(first + BATCH, count))] for first in range(0, count, BATCH)]
    began, began_cpu = time.perf_counter(), time.process_time()
    for batch in batches:
        assert await book.book(batch) == len(batch)
    took, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    print(
        f"booked {count} receipts in batches of {BATCH}: {count / took:.0f}/s, client {cpu / count * 1e6:.1f} µs each"
    )


def _receipt(number: int) -> bytes:
    identity = f"019ab000-0000-7000-8000-{number:012x}"
    hosting = Hosting.SELF_HOSTED if number % 2 else Hosting.MANAGED
    attempt = an_attempt(
        attempt_id=f"{identity}/1", target=f"target{number % 2}", hosting=hosting, charge=Nanodollars(1000 + number)
    )
    caller = a_caller(key_id=f"key{number % 50}", team=f"team{number % 10}")
    facts = some_facts(request_id=identity, caller=caller)
    return encode(a_receipt(attempt, request_id=identity, at_us=1_795_435_200_000_000 + number * 1000, facts=facts))


async def _recovering(database: Database, *, first: int, count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="breakeven-spool-") as scratch:
        child = os.fork()
        if not child:
            asyncio.run(_left_behind(Path(scratch), first=first, count=count))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the process left its receipts behind"
        counted = PrometheusReadings(Gauges(policy_digest=lambda: ""))
        began = time.perf_counter()
        async with Spool.open(Path(scratch), clock=SystemClock(), notice=lambda sentence: None) as spool:
            assert spool.depth == count, f"{spool.depth} of {count} adopted"
            await drain(spool, PostgresLedgerBook(database), within_s=600, listener=counted)
            assert spool.depth == 0, f"{spool.depth} are left"
        print(
            f"recovered {count} receipts of a process that died: {time.perf_counter() - began:.1f} s until all booked"
        )


async def _left_behind(directory: Path, *, first: int, count: int) -> None:
    """Never returns: the process ends with its receipts on the disk and nowhere else."""
    async with Spool.open(directory, clock=SystemClock(), durability="os", notice=lambda sentence: None) as spool:
        for number in range(first, first + count):
            spool.settle_later(decode(_receipt(number)))
        os._exit(0)


async def _reading(url: str, database: Database, attempts: int) -> None:
    connection = await asyncpg.connect(url)
    try:
        began = time.perf_counter()
        await connection.execute(PARTITION)
        await connection.execute(ROLL_UPS, OCTOBER.begin, OCTOBER.end, attempts)
        await connection.execute(ATTEMPTS, OCTOBER.begin, OCTOBER.end, attempts)
        await connection.execute("vacuum analyze attempt, usage_hour")
        print(f"loaded {attempts} attempts and their roll-ups in {time.perf_counter() - began:.0f} s")
        print(f"cost by team by day, from roll-ups: {await _best_ms(connection, BY_TEAM_AND_DAY):.0f} ms")
    finally:
        await connection.close()
    query = CostQuery(since=OCTOBER.begin, until=OCTOBER.end, by=(Dimension.TEAM, Dimension.DAY))
    began = time.perf_counter()
    await PostgresReportBook(database).read(query)
    print(f"the whole report, proof over every attempt included: {(time.perf_counter() - began) * 1000:.0f} ms")
    began = time.perf_counter()
    await PostgresMonthBook(database).parts(OCTOBER)
    print(f"adding the month up, every row hashed: {time.perf_counter() - began:.1f} s")


async def _best_ms(connection: asyncpg.Connection[asyncpg.Record], statement: str) -> float:
    times: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        await connection.fetch(statement, OCTOBER.begin, OCTOBER.end)
        times.append((time.perf_counter() - began) * 1000)
    return min(times)


if __name__ == "__main__":
    sys.exit(main())
