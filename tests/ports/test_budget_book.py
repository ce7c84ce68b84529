"""`app.storage.budget_book` and its fake both are what `app.ports.ledger.BudgetBook` says."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from app.domain.ledger.receipt import Receipt
from app.storage.budget_book import PostgresBudgetBook
from app.storage.budget_statements import ADJUST, SHARED_LOCK
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from tests.books import Reachable, said
from tests.fakes.budget_book import EPOCH, MemoryBudgetBook
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.ports.budget_book_suite import BudgetBookAtHand, BudgetBookSuite


class TestTheBookInPostgres(BudgetBookSuite):
    @pytest.fixture
    def at_hand(self, database: Database, books_url: str) -> BudgetBookAtHand:
        reachable = Reachable(books_url)

        async def let_lapse() -> None:
            await said(books_url, "update budget_lease set expires_at = now() where state <> 'closed'")

        async def adjust(receipt: Receipt, amount: int) -> None:
            async with database.connection() as connection, connection.transaction():
                await connection.execute(SHARED_LOCK)
                await connection.execute(ADJUST, json.dumps([_adjustment(receipt, amount)]))

        return BudgetBookAtHand(
            book=PostgresBudgetBook(database),
            ledger=PostgresLedgerBook(database),
            take_away=reachable.take_away,
            bring_back=reachable.bring_back,
            let_lapse=let_lapse,
            adjust=adjust,
        )


class TestTheBookInMemory(BudgetBookSuite):
    @pytest.fixture
    def at_hand(self) -> BudgetBookAtHand:
        ledger, now_s = MemoryLedgerBook(), [0]
        book = MemoryBudgetBook(ledger, now_us=lambda: now_s[0] * 1_000_000)

        async def take_away() -> None:
            book.away = True

        async def bring_back() -> None:
            book.away = False

        async def let_lapse() -> None:
            now_s[0] += 60

        async def adjust(receipt: Receipt, amount: int) -> None:
            facts = receipt.facts
            book.adjust(caller=facts.caller, model=facts.model, at=_at(receipt), amount=amount)

        return BudgetBookAtHand(
            book=book, ledger=ledger, take_away=take_away, bring_back=bring_back, let_lapse=let_lapse, adjust=adjust
        )


def _adjustment(receipt: Receipt, amount: int) -> dict[str, object]:
    caller = receipt.facts.caller
    return {
        "at": _at(receipt).isoformat(),
        "key_id": caller.key_id,
        "team": caller.team,
        "cost_centre": caller.cost_centre,
        "model": receipt.facts.model,
        "tags": caller.tags,
        "amount": amount,
    }


def _at(receipt: Receipt) -> datetime:
    return EPOCH + timedelta(microseconds=receipt.at_us)
