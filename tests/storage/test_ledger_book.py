"""`app.storage.ledger_book` and `app.storage.ledger_statements`: exactly once, by many at once, to the last unit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations, cycle, islice
from math import inf, nextafter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.ledger.receipt import Receipt
from app.domain.ledger.report import LAST_BUCKET, CostQuery, Dimension, Sums, bucket, compiled
from app.domain.money import Nanodollars
from app.domain.target import Hosting
from app.ports import Books, RowsRefused
from app.storage.columns import SUMS
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook, bucket_edges_ms
from app.storage.ledger_statements import BOOK
from app.storage.receipt_json import encode
from app.storage.report_book import PostgresReportBook
from tests.books import said
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.fakes.report_book import MemoryReportBook
from tests.makers import a_caller, a_plan, a_receipt, an_attempt, some_facts
from tests.random_receipts import receipts

WHOLE = CostQuery(since=datetime(2026, 11, 20, tzinfo=UTC), until=datetime(2026, 11, 27, tzinfo=UTC))
#: The books are kept from one example to the next on purpose, and a busy machine is no fault of an example.
AS_IT_IS = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)
GROUPINGS = [
    by for size in range(4) for by in combinations(Dimension, size) if not {Dimension.KEY, Dimension.HOUR} <= set(by)
]


def some_receipts(count: int, *, seed: int = 1) -> list[Receipt]:
    """Requests of five teams at three targets over two hours, a third of them with a fallback."""
    chance = random.Random(seed)
    made = []
    for number in range(count):
        identity = f"019ab000-0000-7{seed:03x}-8000-{number:012x}"
        targets = [("home", Hosting.SELF_HOSTED), ("openai", Hosting.MANAGED), ("spare", Hosting.SELF_HOSTED)]
        attempts = [
            an_attempt(
                attempt_id=f"{identity}/{place}",
                number=place,
                target=name,
                hosting=hosting,
                charge=Nanodollars(chance.randrange(10**9)),
                ttft_s=chance.random(),
                tpot_s=chance.random() / 10,
            )
            for place, (name, hosting) in enumerate(chance.sample(targets, chance.choice([1, 1, 2])), 1)
        ]
        facts = some_facts(request_id=identity, caller=a_caller(team=f"team-{chance.randrange(5)}"))
        at_us = 1_795_435_200_000_000 + number * 10_000_000
        made.append(a_receipt(*attempts, request_id=identity, at_us=at_us, facts=facts))
    return made


async def tables(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Every row of the books, but for the moment of booking."""
    names = ("receipt", "attempt", "usage_hour", "usage_day_key", "latency_hour")
    return {
        name: sorted(
            tuple(str(value) for column, value in row.items() if column != "booked_at")
            for row in await said(url, f"select * from {name}")
        )
        for name in names
    }


async def test_sending_a_batch_ten_times_changes_no_sum(database: Database, books_url: str) -> None:
    book, batch = PostgresLedgerBook(database), [encode(one) for one in some_receipts(300)]
    assert await book.book(batch) == 300
    before = await tables(books_url)
    for _ in range(10):
        assert await book.book(batch) == 0
    assert await tables(books_url) == before


async def test_four_writers_with_overlapping_batches_book_each_receipt_once_and_never_block_each_other(
    books_url: str,
) -> None:
    made = some_receipts(1_200)
    rows = [encode(one) for one in made]

    async def write(seed: int) -> int:
        chance = random.Random(seed)
        booked = 0
        async with Database(books_url) as database:
            book = PostgresLedgerBook(database)
            starts = list(range(0, len(rows), 60))
            chance.shuffle(starts)
            for start in starts:
                batch = rows[start : start + 120]
                chance.shuffle(batch)
                booked += await book.book(batch)
        return booked

    async with asyncio.TaskGroup() as writers:
        tasks = [writers.create_task(write(seed)) for seed in range(4)]
    assert sum(task.result() for task in tasks) == len(made)
    (deadlocks,) = await said(books_url, "select deadlocks from pg_stat_database where datname = current_database()")
    assert deadlocks["deadlocks"] == 0
    (sums,) = await said(
        books_url,
        "select sum(requests)::bigint as requests, sum(attempts)::bigint as attempts, sum(charge)::bigint as charge, "
        "sum(prompt_tokens)::bigint as prompt from usage_hour",
    )
    attempts = [attempt for one in made for attempt in one.attempts]
    assert tuple(sums) == (
        len(made),
        len(attempts),
        sum(attempt.charge for attempt in attempts),
        sum(attempt.usage.prompt for attempt in attempts),
    )


async def test_a_batch_with_one_bad_row_books_nothing_at_all(database: Database, books_url: str) -> None:
    book, batch = PostgresLedgerBook(database), [encode(one) for one in some_receipts(50)]
    empty = await tables(books_url)
    with pytest.raises(RowsRefused):
        await book.book([*batch, encode(replace(some_receipts(51)[50], status=2**40))])
    assert await tables(books_url) == empty
    assert await book.book(batch) == 50


async def test_a_name_too_long_for_an_index_is_the_rows_own_fault(database: Database) -> None:
    chance = random.Random(1)
    name = "".join(chance.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(20_000))
    with pytest.raises(RowsRefused):
        await PostgresLedgerBook(database).book([encode(a_receipt(an_attempt(target=name)))])


@settings(max_examples=60, suppress_health_check=AS_IT_IS)
@given(batch=st.lists(receipts(), max_size=6))
async def test_the_books_in_postgres_and_the_sums_made_in_python_never_differ(
    database: Database, both: tuple[PostgresLedgerBook, MemoryLedgerBook], batch: list[Receipt]
) -> None:
    """Both books keep what they had from one example to the next, so that sums meet sums."""
    in_postgres, in_memory = both
    rows = [encode(one) for one in batch]
    assert await in_postgres.book(rows) == await in_memory.book(rows)
    for one in batch:
        assert await in_postgres.find(one.request_id) == in_memory.receipts[one.request_id]
    assert await in_postgres.latest(most=5) == await in_memory.latest(most=5)
    by = random.Random(len(in_memory.receipts)).choice(GROUPINGS)
    await _both_tell_the_same(database, in_memory, replace(WHOLE, by=by))


@pytest.fixture
def both(database: Database) -> tuple[PostgresLedgerBook, MemoryLedgerBook]:
    return PostgresLedgerBook(database), MemoryLedgerBook()


@pytest.fixture
def groupings() -> Iterator[tuple[Dimension, ...]]:
    """Every grouping, again and again, from one example to the next."""
    return cycle(GROUPINGS)


@settings(max_examples=20, suppress_health_check=AS_IT_IS)
@given(batch=st.lists(receipts(), min_size=3, max_size=6))
async def test_every_report_by_every_grouping_sums_to_the_ledger(
    database: Database,
    both: tuple[PostgresLedgerBook, MemoryLedgerBook],
    groupings: Iterator[tuple[Dimension, ...]],
    batch: list[Receipt],
) -> None:
    """Twenty examples come twice to each grouping."""
    in_postgres, in_memory = both
    for book in (in_postgres, in_memory):
        await book.book([encode(one) for one in batch])
    for by in islice(groupings, 2 * len(GROUPINGS) // 20 + 1):
        for cost_centres in (None, frozenset({"cc-1", "cc-3"})):
            query = replace(WHOLE, by=by, cost_centres=cost_centres)
            books = await _both_tell_the_same(database, in_memory, query)
            report = compiled(
                query=query, lines=books.lines, by_hosting=books.by_hosting, ledger_charge=books.ledger_charge
            )
            assert report.total.charge == books.ledger_charge


async def _both_tell_the_same(database: Database, in_memory: MemoryLedgerBook, query: CostQuery) -> Books:
    told, known = await PostgresReportBook(database).read(query), await MemoryReportBook(in_memory).read(query)
    assert _by_line(told) == _by_line(known)
    assert told.by_hosting == known.by_hosting
    assert told.ledger_charge == known.ledger_charge
    return told


def _by_line(books: Books) -> dict[tuple[tuple[str, ...], bool], Sums]:
    return {(line.group, line.shadow): line.sums for line in books.lines}


def test_every_bucket_has_an_edge_and_the_time_just_below_it_is_in_the_bucket_before() -> None:
    edges = bucket_edges_ms()
    assert len(edges) == LAST_BUCKET
    for place, edge in enumerate(edges, 1):
        assert bucket(ms=edge) == place
        assert bucket(ms=nextafter(edge, 0.0)) == place - 1


async def test_the_server_puts_every_time_into_the_bucket_that_the_domain_names(database: Database) -> None:
    edges = bucket_edges_ms()
    chance = random.Random(7)
    times = [near for edge in edges for near in (nextafter(edge, 0.0), edge, nextafter(edge, inf))]
    times += [0.0, -1.0, 5e-324, 1.0, 1e300, inf] + [10 ** chance.uniform(-6, 13) for _ in range(5_000)]
    async with database.connection() as connection:
        rows = await connection.fetch(
            "select width_bucket(ms, $2::float8[]) as place from unnest($1::float8[]) with ordinality as time (ms, n) "
            "order by n",
            times,
            edges,
        )
    assert [row["place"] for row in rows] == [bucket(ms=ms) for ms in times]


def test_the_statement_names_every_figure_of_the_roll_ups() -> None:
    assert all(f"kept.{name} + excluded.{name}" in BOOK for name in SUMS)


async def test_what_a_decision_saw_comes_back_to_the_last_bit_of_every_float(database: Database) -> None:
    chance = random.Random(1)
    figures = [5e-324, 1.7976931348623157e308, 1e22, 1e23, 0.1 + 0.2, 2**53 + 1.0, 1e-7, 0.0]
    figures += [chance.random() * 10.0 ** chance.randrange(-300, 300) for _ in range(200)]
    plan = a_plan(*(f"t{place}" for place in range(len(figures))))
    candidates = tuple(
        replace(one, seen=replace(one.seen, predicted_ttft_ms=figure))
        for one, figure in zip(plan.candidates, figures, strict=True)
    )
    receipt = a_receipt(decision=replace(plan, candidates=candidates))
    book = PostgresLedgerBook(database)
    await book.book([encode(receipt)])
    found = await book.find(receipt.request_id)
    assert found == receipt
    assert encode(found) == encode(receipt)
