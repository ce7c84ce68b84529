"""`app.storage.repeat_book` and its fake both are what `app.ports.repeats.RepeatBook` says."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.domain.metering.measurement import Outcome
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.receipt_json import encode
from app.storage.repeat_book import PostgresRepeatBook
from tests.books import Reachable, said
from tests.fakes.repeat_book import MemoryRepeatBook
from tests.makers import a_receipt, an_attempt
from tests.ports.repeat_book_suite import RepeatBookAtHand, RepeatBookSuite


class TestTheBookInPostgres(RepeatBookSuite):
    @pytest.fixture
    def at_hand(self, database: Database, books_url: str) -> RepeatBookAtHand:
        reachable = Reachable(books_url)

        async def pass_s(seconds: float) -> None:
            """As if all that is written had been written so much earlier."""
            await said(
                books_url,
                "update repeat set claimed_at = claimed_at - $1::interval, expires_at = expires_at - $1::interval",
                timedelta(seconds=seconds),
            )

        async def book_receipt(request_id: str, outcome: str) -> None:
            attempt = an_attempt(attempt_id=f"{request_id}/1", outcome=Outcome(outcome))
            receipt = a_receipt(attempt, request_id=request_id, outcome=Outcome(outcome))
            await PostgresLedgerBook(database).book([encode(receipt)])

        return RepeatBookAtHand(
            book=PostgresRepeatBook(database),
            take_away=reachable.take_away,
            bring_back=reachable.bring_back,
            pass_s=pass_s,
            book_receipt=book_receipt,
        )


class TestTheBookInMemory(RepeatBookSuite):
    @pytest.fixture
    def at_hand(self) -> RepeatBookAtHand:
        now_s = [1000.0]
        book = MemoryRepeatBook(now_s=lambda: now_s[0])

        async def take_away() -> None:
            book.away = True

        async def bring_back() -> None:
            book.away = False

        async def pass_s(seconds: float) -> None:
            now_s[0] += seconds

        async def book_receipt(request_id: str, outcome: str) -> None:
            if outcome != "interrupted":
                book.answered.add(request_id)

        return RepeatBookAtHand(
            book=book, take_away=take_away, bring_back=bring_back, pass_s=pass_s, book_receipt=book_receipt
        )
