"""`app.storage.tables.ledger`: the journal that booking writes."""

from __future__ import annotations

from dataclasses import replace

import asyncpg
import pytest

from app.domain.money import Nanodollars
from app.domain.target import Hosting
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.migrate import differences, migrate
from app.storage.receipt_json import encode
from app.storage.tables.ledger import POSTING
from tests.books import said
from tests.makers import NOON, a_caller, an_attempt, some_facts
from tests.ports.ledger_book_suite import receipt, request_id
from tests.postgres import FreshDatabases
from tests.storage.test_migrate import migrate_to

#: What `verify` asks: every entry's postings sum to zero, and its expenses to what its attempts were charged.
AT_ODDS = """
    select entry_id from entry
     where coalesce((select sum(amount) from posting where posting.entry_id = entry.entry_id), 0) <> 0
        or coalesce((select sum(amount) from posting
                      where posting.entry_id = entry.entry_id and account like 'team\\_expense:%'), 0)
           <> coalesce((select sum(charge) from attempt where attempt.entry_id = entry.entry_id), 0)
"""


async def test_a_batch_is_one_entry_a_month_and_its_postings_sum_to_its_attempts(
    database: Database, books_url: str
) -> None:
    def one(number: int, *, target: str, hosting: Hosting, team: str, charge: int, at_us: int = 0) -> bytes:
        attempt = an_attempt(
            attempt_id=f"{request_id(number)}/1", target=target, hosting=hosting, charge=Nanodollars(charge)
        )
        facts = some_facts(request_id=request_id(number), caller=a_caller(team=team, cost_centre="a/b"))
        given = replace(receipt(number, facts=facts), attempts=(attempt,))
        return encode(replace(given, at_us=at_us) if at_us else given)

    home, sold = Hosting.SELF_HOSTED, Hosting.MANAGED
    december_us = int(NOON.replace(month=12).timestamp() * 1e6)
    batch = [
        one(1, target="home", hosting=home, team="x", charge=5),
        one(2, target="home", hosting=home, team="y", charge=7),
        one(3, target="seller", hosting=sold, team="x", charge=11),
        one(4, target="seller", hosting=sold, team="x", charge=13, at_us=december_us),
        one(5, target="free", hosting=sold, team="z", charge=0),
    ]
    book = PostgresLedgerBook(database)
    assert [await book.book(batch) for _ in range(2)] == [5, 0]
    lines = await said(
        books_url, "select month, account, amount from entry join posting using (entry_id) order by 1, 2"
    )
    assert [(row["month"].month, row["account"], row["amount"]) for row in lines] == [
        (11, "gpu_pool_clearing:home", -12),
        (11, "provider_payable:seller", -11),
        (11, "team_expense:x/a%2Fb", 16),
        (11, "team_expense:y/a%2Fb", 7),
        (12, "provider_payable:seller", -13),
        (12, "team_expense:x/a%2Fb", 13),
    ]
    assert [row["description"] for row in await said(books_url, "select description from entry order by month")] == [
        "4 attempts",
        "1 attempts",
    ]
    assert await said(books_url, AT_ODDS) == []
    assert await said(books_url, "select 1 from attempt where entry_id is null") == []


async def test_postings_that_do_not_sum_to_zero_are_refused(books_url: str) -> None:
    await said(books_url, "insert into entry (month, kind, description) values ('2026-11-01', 'machine_hours', 'gpu')")
    with pytest.raises(asyncpg.RestrictViolationError, match="sum to zero"):
        await said(books_url, "insert into posting select entry_id, 'a', 1 from entry")
    await said(
        books_url,
        "insert into posting select entry_id, 'a', 1 from entry union all select entry_id, 'b', -1 from entry",
    )
    assert len(await said(books_url, f"select * from {POSTING.name}")) == 2


async def test_what_was_booked_before_there_was_a_journal_stands_in_an_opening_entry(
    fresh_database: FreshDatabases,
) -> None:
    url = await fresh_database()
    await migrate_to(url, "0004")
    await said(url, OLD_ATTEMPT)
    await migrate(url, now=NOON)
    assert await differences(url) is None
    lines = await said(
        url, "select month, kind, account, amount from entry join posting using (entry_id) order by account"
    )
    assert [(str(row["month"]), row["kind"], row["account"], row["amount"]) for row in lines] == [
        ("2026-11-01", "opening", "provider_payable:seller", -9),
        ("2026-11-01", "opening", "team_expense:t/c", 9),
    ]


OLD_ATTEMPT = """
    insert into attempt (attempt_id, at, request_id, number, key_id, team, cost_centre, model, target, hosting,
                         target_kind, upstream_model, outcome, started_at, prompt_tokens, cached_tokens, output_tokens,
                         reasoning_tokens, usage_source, content_events, duration_s, policy_digest, rate_card_digest,
                         price_prompt, price_cached_prompt, price_output, charge, flags)
    values ('a/1', '2026-11-23T12:00Z', '019ab000-0000-7000-8000-000000000001', 1, 'k', 't', 'c', 'm', 'seller',
            'managed', 'openai', 'm', 'complete', '2026-11-23T12:00Z', 1, 0, 1, 0, 'provider_final', 1, 1.0, 'd', 'd',
            1, 1, 1, 9, '{}')
"""
