"""What an account is opened with by `app.storage.budget_book` is what it would stand at had it been there before."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest

from app.domain.budget import Every, period
from app.domain.ledger.adjustment import Adjustment
from app.domain.money import Nanodollars
from app.ports.ledger import LeaseWanted
from app.storage.adjustment_book import PostgresAdjustmentBook
from app.storage.budget_book import PostgresBudgetBook
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.receipt_json import encode
from app.storage.spend_book import PostgresSpendBook
from tests.books import said
from tests.makers import NOON
from tests.ports.budget_book_suite import a_budget, told, wanting

SCOPES: list[dict[str, str]] = [
    {},
    {"key": "k1"},
    {"key": "k2", "team": "red", "tag": "batch"},
    {"team": "red"},
    {"cost_centre": "x", "model": "embed"},
    {"tag": "batch"},
    {"tag": "night", "team": "blue"},
]
LATE_BY = timedelta(days=30)


def all_wanted(name: str, zone: tzinfo) -> list[LeaseWanted]:
    """Every scope, by day, week and month: around NOON, around what is late, and around the moment of booking."""
    made = []
    for moment in (NOON, NOON - LATE_BY, datetime.now(UTC)):
        for every in Every:
            begin, end = period(every, at=moment.astimezone(zone))
            made += [wanting(a_budget(name, every=every, **of), begin=begin, end=end) for of in SCOPES]
    return made


@pytest.mark.parametrize(
    "zone", [UTC, ZoneInfo("Europe/Berlin"), timezone(timedelta(hours=5, minutes=45))], ids=["UTC", "Berlin", "Nepal"]
)
async def test_late_facts_of_a_closed_month_and_corrections_are_in_what_a_new_account_begins_with(
    database: Database, books_url: str, zone: tzinfo
) -> None:
    chance = random.Random(1)
    book, ledger = PostgresBudgetBook(database), PostgresLedgerBook(database)
    early, late = all_wanted("early", zone), all_wanted("late", zone)
    await book.lease(early, holder="h")

    def receipts(first: int, *, around: datetime) -> list[bytes]:
        return [
            encode(
                told(
                    number,
                    chance.randint(1, 1_000),
                    at=around + timedelta(minutes=chance.randint(-3_000, 3_000)),
                    model=chance.choice(["chat", "embed"]),
                    key_id=chance.choice(["k1", "k2"]),
                    team=chance.choice(["red", "blue"]),
                    cost_centre=chance.choice("xy"),
                    tags=tuple(chance.sample(["batch", "night"], chance.randint(0, 2))),
                )
            )
            for number in range(first, first + 60)
        ]

    await ledger.book(receipts(0, around=NOON))
    await ledger.book(receipts(100, around=NOON - LATE_BY))
    await said(books_url, "insert into month_seal (month, by) values ('2026-10-01', 'finance')")
    await ledger.book(receipts(200, around=NOON - LATE_BY))
    (late_rows,) = await said(books_url, "select count(*) as n from receipt where booked_for is not null")
    assert late_rows["n"] == 60
    attempts = await said(books_url, "select attempt_id from attempt order by attempt_id")
    await PostgresAdjustmentBook(database).adjust(
        [
            Adjustment(
                adjustment_id=f"test/{row['attempt_id']}",
                attempt_id=row["attempt_id"],
                reason="another price",
                by="finance",
                amount=Nanodollars(chance.randint(-500, 500)),
            )
            for row in chance.sample(attempts, 60)
        ]
    )
    await book.lease(late, holder="h")
    for here, there in zip(await book.standings(early), await book.standings(late), strict=True):
        assert here is not None
        assert here == there
    spend = PostgresSpendBook(database)
    for one, standing in zip(early, await book.standings(early), strict=True):
        assert standing is not None
        assert await spend.spent(one.budget, begin=one.begin, end=one.end) == standing.spent
