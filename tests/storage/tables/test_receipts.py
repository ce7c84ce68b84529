"""`app.storage.tables` and the migrations in `migrations/`: what the tables hold, refuse, and show."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from enum import StrEnum

import asyncpg
import pytest

from app.domain.ledger.report import Sums
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.target import Hosting
from app.domain.usage import UsageSource
from app.storage.columns import SUMS
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.receipt_json import encode
from app.storage.tables import METADATA as EVERY_TABLE
from app.storage.tables.metadata import METADATA
from app.storage.tables.receipts import ATTEMPT, HOSTINGS, OUTCOMES, RECEIPT, USAGE_SOURCES
from tests.books import said
from tests.makers import a_receipt, an_attempt


@pytest.mark.parametrize(("written", "words"), [(OUTCOMES, Outcome), (USAGE_SOURCES, UsageSource), (HOSTINGS, Hosting)])
def test_the_words_a_column_takes_are_the_words_of_the_domain(written: str, words: type[StrEnum]) -> None:
    assert {word.strip("' ") for word in written.strip("()").split(",")} == {word.value for word in words}


def test_a_roll_up_adds_every_figure_of_a_line() -> None:
    of_a_line = {field.name for field in fields(Sums)} - {"latency"}
    assert {"decode_s" if name == "decode_us" else name for name in SUMS} == of_a_line


def test_no_row_is_without_its_price_version_policy_and_usage_source() -> None:
    needed = {
        "policy_digest",
        "rate_card_digest",
        "usage_source",
        "price_prompt",
        "price_cached_prompt",
        "price_output",
    }
    assert not any(ATTEMPT.c[name].nullable for name in needed)
    assert not RECEIPT.c.policy_digest.nullable


@pytest.mark.parametrize(
    "statement",
    [
        "update receipt set status = 500",
        "update attempt set charge = 0",
        "delete from receipt",
        "delete from attempt where attempt_id <> ''",
        "truncate receipt",
        "truncate attempt",
        "update receipt_2026_11 set status = 500",
        "delete from attempt_2026_11",
        "truncate receipt_2026_11",
        "truncate attempt_default",
        "insert into receipt select * from receipt on conflict (request_id, at) do update set status = 500",
    ],
)
async def test_what_is_booked_can_be_neither_changed_nor_removed(
    database: Database, books_url: str, statement: str
) -> None:
    book = PostgresLedgerBook(database)
    await book.book([encode(a_receipt())])
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await said(books_url, statement)
    assert await book.find(a_receipt().request_id) == a_receipt()


async def test_finance_reads_dollars_to_the_last_nanodollar(database: Database, books_url: str) -> None:
    receipt = a_receipt(an_attempt(charge=Nanodollars(1_234_567_890_123_456)))
    await PostgresLedgerBook(database).book([encode(receipt)])
    (row,) = await said(books_url, "select * from finance_usage")
    assert row["charge_usd"] == Decimal("1234567.890123456")
    assert (row["team"], row["target"], row["hosting"], row["requests"]) == ("research", "home", "self_hosted", 1)
    assert row["day_utc"].isoformat() == "2026-11-23"


async def test_a_receipt_keeps_the_sum_and_the_end_of_its_attempts(database: Database, books_url: str) -> None:
    first = an_attempt(charge=Nanodollars(5))
    second = an_attempt(attempt_id="x/2", number=2, target="openai", hosting=Hosting.MANAGED, charge=Nanodollars(7))
    await PostgresLedgerBook(database).book([encode(a_receipt(first, second))])
    (row,) = await said(books_url, "select * from receipt")
    assert (row["charge"], row["attempts"], row["target"], row["hosting"]) == (12, 2, "openai", "managed")
    assert (row["rule"], row["team"], row["endpoint"]) == ("the rule", "research", "chat")


def test_all_tables_stand_in_one_metadata() -> None:
    assert EVERY_TABLE is METADATA
    assert {"receipt", "attempt", "usage_hour"} <= set(METADATA.tables)
