"""`app.storage.budget_book` by many at once, and cut off in the middle."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from dataclasses import replace
from decimal import Decimal

import asyncpg
import pytest

from app.domain.budget import Every, period
from app.domain.money import Nanodollars
from app.ports import BooksAway, RowsRefused
from app.ports.ledger import LeaseWanted
from app.storage.budget_book import PostgresBudgetBook
from app.storage.budget_statements import ADJUST, SHARED_LOCK
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.receipt_json import encode
from tests.books import said
from tests.makers import NOON, a_caller
from tests.ports.budget_book_suite import BEGIN, END, a_budget, told, wanting

#: The invariants I3 and I4 for every account, and what every lease keeps, as the rows of the books say it.
WRONG = """
select a.account, a.begin_at, a.spent, booked.charge, kept.kept
  from budget_account a
 cross join lateral (
           select coalesce(sum(r.charge), 0)::bigint as charge from receipt r
            where r.at >= a.begin_at and r.at < a.end_at
              and coalesce(a.team, r.team) = r.team and coalesce(a.key_id, r.key_id) = r.key_id
              and coalesce(a.model, r.model) = r.model
              and (a.tag is null or r.facts #> '{caller,tags}' ? a.tag)
       ) as booked
 cross join lateral (
           select coalesce(sum(l.granted - l.returned - l.used), 0)::bigint as kept
             from budget_lease l where l.account = a.account and l.begin_at = a.begin_at
       ) as kept
 where a.spent <> booked.charge or a.spent + kept.kept > a.cap or a.overrun <> 0
"""
#: Long enough for a call to be waiting for a lock.
WAITING = "select count(*) as n from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"


async def no_deadlock(url: str) -> bool:
    (row,) = await said(url, "select deadlocks from pg_stat_database where datname = current_database()")
    return bool(row["deadlocks"] == 0)


async def until_waiting(url: str, count: int = 1) -> None:
    async with asyncio.timeout(20):
        while (await said(url, WAITING))[0]["n"] < count:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("trial", range(12))
async def test_of_320_tries_on_room_for_100_exactly_100_are_granted(books_url: str, trial: int) -> None:
    budgets = [a_budget("all", amount=100), a_budget("team", amount=1_000, team="research")]
    wanted = [wanting(budget, need=1) for budget in budgets]

    async def many(database: Database, worker: int) -> int:
        book, chance, got = PostgresBudgetBook(database), random.Random(trial * 100 + worker), 0
        for number in range(20):
            answers = await book.lease(
                [wanted[place] for place in chance.sample(range(2), 2)], holder=f"{worker}-{number}"
            )
            got += next(answer.granted for answer in answers if answer.account == budgets[0].account)
        return got

    async with Database(books_url, connections_most=16) as database:
        granted = await asyncio.gather(*(many(database, worker) for worker in range(16)))
        (standing, _) = await PostgresBudgetBook(database).standings(wanted)
    assert sum(granted) == 100
    assert standing is not None
    assert (standing.leased, standing.room) == (100, 0)
    assert await no_deadlock(books_url)


async def test_books_leases_sweeps_and_closings_at_once_keep_every_invariant_and_never_block_each_other(
    books_url: str,
) -> None:
    budgets = [
        a_budget("all", amount=10**6),
        a_budget("a", amount=10**6, team="a"),
        a_budget("b", amount=10**6, team="b", every=Every.WEEK),
        a_budget("key", amount=10**6, key="k1", every=Every.MONTH),
        a_budget("tag", amount=10**6, tag="batch"),
    ]
    numbers = itertools.count(1)

    def wants(budget_places: list[int], need: int) -> list[LeaseWanted]:
        made = []
        for place in budget_places:
            begin, end = period(budgets[place].every, at=NOON)
            made.append(wanting(budgets[place], need=need, begin=begin, end=end))
        return made

    async def process(database: Database, name: str, chance: random.Random) -> None:
        book, ledger = PostgresBudgetBook(database), PostgresLedgerBook(database)
        for _ in range(12):
            places = chance.sample(range(5), chance.randint(1, 5))
            await book.lease(wants(places, 100), holder=name)
            receipts = []
            for _ in range(chance.randint(1, 5)):
                caller = {"team": chance.choice("abc"), "key_id": chance.choice(["k1", "k2"])}
                tags = chance.choice([(), ("batch",)])
                of = [
                    (budgets[place], name, 20)
                    for place in places
                    if budgets[place].is_of(caller=a_caller(**caller, tags=tags), model="chat")
                ]
                receipts.append(encode(told(next(numbers), chance.randint(0, 20), *of, **caller, tags=tags)))
            await asyncio.gather(ledger.book(receipts), ledger.book(receipts[::-1]))
            if chance.random() < 0.3:
                await said(books_url, "update budget_lease set expires_at = now() where holder = $1", name)
                await book.sweep()
        await book.close(name)

    async with Database(books_url, connections_most=12) as database:
        async with asyncio.TaskGroup() as processes:
            for number in range(6):
                processes.create_task(process(database, f"p{number}", random.Random(number)))
        assert await said(books_url, WRONG) == []
        (left,) = await said(books_url, "select count(*) as n from budget_lease where state <> 'closed'")
        assert left["n"] == 0
    assert await no_deadlock(books_url)


async def test_an_account_that_is_opened_while_receipts_are_booked_misses_none_and_counts_none_twice(
    books_url: str,
) -> None:
    async with Database(books_url, connections_most=8) as database:
        book, ledger = PostgresBudgetBook(database), PostgresLedgerBook(database)

        async def write(first: int) -> None:
            for number in range(first, first + 40, 4):
                await ledger.book([encode(told(one, 1, tags=("batch",))) for one in range(number, number + 4)])

        async def open_accounts() -> None:
            for number in range(12):
                of = ({}, {"key": "abcdefgh"}, {"tag": "batch"})[number % 3]
                await book.lease([wanting(a_budget(f"n{number}", **of))], holder="opener")
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as all_at_once:
            for writer in range(4):
                all_at_once.create_task(write(1 + writer * 40))
            all_at_once.create_task(open_accounts())
    accounts = await said(books_url, "select name, spent from budget_account")
    assert {row["spent"] for row in accounts} == {160}
    assert len(accounts) == 12
    assert await no_deadlock(books_url)


async def test_a_call_whose_connection_is_killed_happens_wholly_or_not_at_all_and_can_be_sent_again(
    books_url: str,
) -> None:
    wanted = [wanting(a_budget("a"), need=100), wanting(a_budget("b"), need=100)]
    async with Database(books_url) as database:
        book = PostgresBudgetBook(database)
        await book.lease([replace(one, need=Nanodollars(0)) for one in wanted], holder="h")
        blocker = await asyncpg.connect(books_url)
        try:
            async with blocker.transaction():
                # The second of two accounts: the first one was granted already when the call is cut off.
                await blocker.execute("select 1 from budget_account where name = 'b' for update")
                call = asyncio.create_task(book.lease(wanted, holder="h"))
                await until_waiting(books_url)
                await said(
                    books_url,
                    "select pg_terminate_backend(pid) from pg_stat_activity "
                    "where wait_event_type = 'Lock' and datname = current_database()",
                )
                with pytest.raises(BooksAway):
                    await call
        finally:
            await blocker.close()
        assert [standing and standing.leased for standing in await book.standings(wanted)] == [0, 0]
        again = await book.lease(wanted, holder="h")
        assert [(answer.granted, answer.standing.leased) for answer in again] == [(100, 100), (100, 100)]


async def test_a_call_under_way_while_its_process_is_closed_leaves_no_lease_behind(books_url: str) -> None:
    """Its process was killed, its connection lives on in the server, and its spool is adopted at once."""
    async with Database(books_url) as database:
        book = PostgresBudgetBook(database)
        await book.lease([wanting()], holder="another")
        blocker = await asyncpg.connect(books_url)
        try:
            async with blocker.transaction():
                await blocker.execute("select 1 from budget_account for update")
                late = asyncio.create_task(book.lease([wanting(need=100)], holder="h"))
                await until_waiting(books_url)
                closing = asyncio.create_task(book.close("h"))
                await until_waiting(books_url, 2)
        finally:
            await blocker.close()
        assert (await late)[0].granted == 100
        assert await closing == 1
        (standing,) = await book.standings([wanting()])
        assert standing is not None
        assert standing.room == 1_000


async def test_a_closed_holder_is_forgotten_after_a_day(books_url: str, database: Database) -> None:
    book = PostgresBudgetBook(database)
    for holder in ("old", "young"):
        await book.close(holder)
    await said(books_url, "update budget_gone set gone_at = gone_at - interval '25 hours' where holder = 'old'")
    await book.sweep()
    assert [row["holder"] for row in await said(books_url, "select holder from budget_gone")] == ["young"]


async def test_an_amount_beyond_all_money_is_refused_and_opens_nothing(database: Database, books_url: str) -> None:
    with pytest.raises(RowsRefused):
        await PostgresBudgetBook(database).lease([wanting(a_budget(amount=2**63))], holder="h")
    assert await said(books_url, "select 1 from budget_account") == []


async def test_a_period_that_ends_before_it_begins_is_refused(database: Database) -> None:
    with pytest.raises(RowsRefused):
        await PostgresBudgetBook(database).lease([wanting(begin=END, end=BEGIN)], holder="h")


async def test_a_renewal_writes_no_index(books_url: str) -> None:
    async with Database(books_url, connections_most=1) as database:
        book = PostgresBudgetBook(database)
        for _ in range(50):
            await book.lease([wanting(need=1)], holder="h")
    await _has_told_all(books_url)
    (row,) = await said(
        books_url,
        "select n_tup_upd as updates, n_tup_hot_upd as hot from pg_stat_user_tables where relname = 'budget_lease'",
    )
    assert row["updates"] == row["hot"] == 50 + 49


async def _has_told_all(url: str) -> None:
    """A session hands in what it counted before it is gone."""
    sessions = "select count(*) as n from pg_stat_activity where datname = current_database() and application_name = $1"
    async with asyncio.timeout(20):
        while (await said(url, sessions, "breakeven"))[0]["n"]:
            await asyncio.sleep(0.01)


async def test_a_correction_waits_for_an_account_that_is_being_opened(database: Database, books_url: str) -> None:
    book = PostgresBudgetBook(database)
    await book.lease([wanting()], holder="h")
    adjustment = {"at": NOON.isoformat(), "key_id": "k", "team": "t", "cost_centre": "c", "model": "m", "tags": []}
    async with database.connection() as connection, connection.transaction():
        await connection.execute(SHARED_LOCK)
        await connection.execute(ADJUST, json.dumps([{**adjustment, "amount": 5}, {**adjustment, "amount": -2}]))
        opening = asyncio.create_task(book.lease([wanting(a_budget("later"))], holder="h"))
        await until_waiting(books_url)
    await opening
    (standing,) = await book.standings([wanting()])
    assert standing is not None
    assert standing.spent == 3


async def test_finance_sees_what_is_held_and_what_is_lost_of_a_budget(database: Database, books_url: str) -> None:
    book = PostgresBudgetBook(database, lease_s=0.001)
    dollar = 1_000_000_000
    budget = a_budget(amount=10 * dollar)
    await book.lease([wanting(budget, need=3 * dollar)], holder="gone")
    await asyncio.sleep(0.01)
    await book.sweep()
    await PostgresBudgetBook(database).lease([wanting(budget, need=2 * dollar)], holder="here")
    await PostgresBudgetBook(database).lease([wanting(a_budget("empty"))], holder="here")
    rows = await said(books_url, "select name, amount_usd, held_usd, lost_usd from finance_budgets order by name")
    assert [tuple(row) for row in rows] == [("b", 10, 2, 3), ("empty", Decimal("0.000001"), 0, 0)]
