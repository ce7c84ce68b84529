"""`app.storage.verify_book`: sound books pass, and each violation is found and named."""

from __future__ import annotations

from dataclasses import replace

import asyncpg
import pytest

from app.domain.budget import period
from app.domain.ledger.hold import Hold
from app.domain.ledger.invariants import SAID, Checked, Invariant
from app.domain.money import Nanodollars
from app.domain.usage import UsageSource
from app.flows.verify import verified
from app.ports.ledger import LeaseWanted
from app.storage.budget_book import PostgresBudgetBook
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.month_book import PostgresMonthBook
from app.storage.receipt_json import encode
from app.storage.verify_book import PostgresVerifyBook
from app.storage.verify_statements import STATEMENTS
from tests.makers import NOON, REQUEST_ID, a_receipt, an_attempt
from tests.ports.budget_book_suite import a_budget

NOON_US = int(NOON.timestamp()) * 1_000_000
HELD = Nanodollars(10**9)


async def filled(database: Database) -> None:
    """A leased budget and two receipts that spend of it."""
    budget = a_budget(team="research")
    begin, end = period(budget.every, at=NOON)
    await PostgresBudgetBook(database).lease(
        [LeaseWanted(budget=budget, begin=begin, end=end, need=HELD, want=HELD)], holder="here"
    )
    receipts = []
    for number in range(2):
        request_id = REQUEST_ID[:-1] + str(number)
        attempt = an_attempt(attempt_id=f"{request_id}/1", charge=Nanodollars(1_000))
        hold = Hold(account=budget.account, holder="here", amount=HELD)
        receipts.append(
            a_receipt(attempt, request_id=request_id, at_us=NOON_US + number, holds=(hold,), policy_digest="cafe")
        )
    await PostgresLedgerBook(database).book([encode(receipt) for receipt in receipts])


async def looked_at(database: Database) -> dict[Invariant, Checked]:
    checks = verified(PostgresVerifyBook(database), PostgresMonthBook(database))
    return {checked.invariant: checked async for checked in checks}


async def broken_by(url: str, statement: str) -> None:
    """What no trigger and no right would let through."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("set session_replication_role = replica")
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_sound_books_hold_every_invariant_and_something_was_looked_at(database: Database) -> None:
    await filled(database)
    found = await looked_at(database)
    assert list(found) == list(Invariant) == list(SAID) == list(STATEMENTS)
    assert [(each.invariant, each.named) for each in found.values() if not each.holds] == []
    assert {name for name, each in found.items() if not each.rows} == {Invariant.CLOSED_MONTHS}


async def test_empty_books_hold_too(database: Database) -> None:
    assert all(each.holds for each in (await looked_at(database)).values())


@pytest.mark.parametrize(
    ("invariant", "statement", "named"),
    [
        (Invariant.SETTLED_ONCE, "delete from attempt where attempt_id like '%0/1'", REQUEST_ID[:-1] + "0"),
        (Invariant.SETTLED_ONCE, "delete from receipt where request_id::text like '%1'", REQUEST_ID[:-1] + "1"),
        (
            Invariant.UNIQUE,
            """
            insert into receipt select (jsonb_populate_record(r, jsonb_build_object('at', r.at + interval '1 s'))).*
              from receipt r where request_id::text like '%1'
            """,
            REQUEST_ID[:-1] + "1",
        ),
        (Invariant.ACCOUNTS, "update budget_account set spent = spent + 1", "2001 instead of 2000"),
        (Invariant.WITHIN_CAP, "update budget_account set overrun = 7", ": 7"),
        (Invariant.LEASES, "update budget_lease set expires_at = now() - interval '1 hour'", "by here"),
        (Invariant.BALANCED, "update posting set amount = amount + 1 where amount > 0", "entry 1"),
        (Invariant.JOURNAL, "update posting set amount = amount * 2", "entry 1"),
        (Invariant.PROVENANCE, "update attempt set rate_card_digest = ''", "/1"),
        (Invariant.ROLL_UPS, "update usage_hour set charge = charge - 1", "charge in usage_hour 2026-11-01"),
        (Invariant.ROLL_UPS, "delete from usage_day_key", "charge in usage_day_key 2026-11-01"),
    ],
)
async def test_a_violation_is_found_and_named(
    database: Database, books_url: str, invariant: Invariant, statement: str, named: str
) -> None:
    await filled(database)
    await broken_by(books_url, statement)
    found = (await looked_at(database))[invariant]
    assert not found.holds
    assert any(named in name for name in found.named), found.named


async def test_an_estimate_above_its_hold_is_found(database: Database) -> None:
    hold = Hold(account=a_budget().account, holder="here", amount=Nanodollars(10))
    attempt = an_attempt(charge=Nanodollars(11), usage_source=UsageSource.GATEWAY_ESTIMATE)
    receipt = a_receipt(attempt, at_us=NOON_US, holds=(hold,))
    exact = replace(attempt, attempt_id="other/1", usage_source=UsageSource.PROVIDER_FINAL)
    other = replace(receipt, request_id=REQUEST_ID[:-1] + "7", attempts=(exact,))
    await PostgresLedgerBook(database).book([encode(receipt), encode(other)])
    found = (await looked_at(database))[Invariant.ESTIMATES]
    assert (found.rows, found.violations) == (2, 1)
    assert REQUEST_ID in found.named[0]


async def test_an_overrun_of_a_soft_budget_is_its_own_affair(database: Database, books_url: str) -> None:
    await filled(database)
    await broken_by(books_url, "update budget_account set overrun = 7")
    book = PostgresVerifyBook(database)
    accounts = [a_budget(team="research").account]
    found = {each.invariant: each async for each in book.checks(soft_accounts=accounts)}
    assert found[Invariant.WITHIN_CAP].holds


async def test_what_is_booked_while_the_books_are_looked_at_is_in_none_of_the_checks(database: Database) -> None:
    await filled(database)
    checks = PostgresVerifyBook(database).checks()
    first = await anext(checks)
    late = a_receipt(at_us=NOON_US + 5, request_id=REQUEST_ID[:-1] + "9")
    await PostgresLedgerBook(database).book([encode(late)])
    rest = [each async for each in checks]
    assert first.rows == 2
    assert all(each.holds for each in rest)
