"""`app.storage.suspect_book`: whose usage cannot be true, and nobody else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app.domain.usage import USAGE_OVER_CAP, USAGE_SUSPECT
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.receipt_json import encode
from app.storage.suspect_book import PostgresSuspectBook
from tests.storage.test_ledger_book import some_receipts


async def test_only_flagged_requests_are_listed_newest_first_within_their_time(database: Database) -> None:
    sound = some_receipts(9)
    flags = (USAGE_SUSPECT, USAGE_OVER_CAP)
    wrong = [
        replace(each, attempts=(*each.attempts[:-1], replace(each.attempts[-1], flags=flags))) for each in sound[::3]
    ]
    told = sorted([*wrong, *(each for place, each in enumerate(sound) if place % 3)], key=lambda each: each.request_id)
    await PostgresLedgerBook(database).book([encode(each) for each in told])
    book = PostgresSuspectBook(database)
    first = datetime.fromtimestamp(sound[0].at_us / 1e6, UTC)
    assert await book.suspicious(since=first, most=10) == tuple(reversed(wrong))
    assert await book.suspicious(since=first, most=1) == (wrong[-1],)
    assert await book.suspicious(since=first + timedelta(seconds=1), most=10) == tuple(reversed(wrong[1:]))
    assert await book.suspicious(since=first, most=0) == ()
