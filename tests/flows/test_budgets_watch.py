from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest

from app.domain.budget import Budget, Every
from app.domain.ledger.receipt import Receipt
from app.domain.money import Nanodollars
from app.domain.routing.policy import Policy
from app.flows.budgets_watch import READ_EVERY_S, refresh_budgets, watch_budgets
from app.live.budgets import SpentBudgets
from app.live.policy_slot import PolicySlot
from app.ports import BooksAway
from app.storage.receipt_json import encode
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.fakes.spend_book import MemorySpendBook
from tests.makers import NOON, a_policy, a_receipt, a_route, an_attempt

USD = 1_000_000_000
AT_US = int(NOON.timestamp()) * 1_000_000


def _policy(*read: str) -> Policy:
    names = ("research", "legal")
    budgets = {name: Budget(name=name, amount=Nanodollars(100 * USD), every=Every.MONTH, team=name) for name in names}
    return replace(a_policy(route=a_route(reads_budgets=read)), budgets=budgets)


async def _books(usd: int) -> tuple[MemoryLedgerBook, MemorySpendBook]:
    ledger = MemoryLedgerBook()
    receipt = a_receipt(an_attempt(charge=Nanodollars(usd * USD)), at_us=AT_US - 1)
    await ledger.book([encode(receipt)])
    return ledger, MemorySpendBook(ledger)


async def test_a_budget_that_a_condition_reads_is_looked_up_and_others_are_not() -> None:
    _, book = await _books(30)
    budgets, policy = SpentBudgets(), _policy("research")
    await refresh_budgets(book, budgets, policy, at_us=AT_US)
    seen = budgets.view(policy, at=NOON)
    assert set(seen) == {"research"}
    assert (seen["research"].remaining_usd, seen["research"].used) == (70, 0.3)


async def test_while_the_books_are_away_the_last_values_stay_and_grow_by_what_is_settled_here() -> None:
    ledger, book = await _books(30)
    budgets, policy = SpentBudgets(), _policy("research")
    await refresh_budgets(book, budgets, policy, at_us=AT_US)
    ledger.away = True
    with pytest.raises(BooksAway):
        await refresh_budgets(book, budgets, policy, at_us=AT_US)
    budgets.settled(a_receipt(an_attempt(charge=Nanodollars(5 * USD)), at_us=AT_US))
    assert budgets.view(policy, at=NOON)["research"].remaining_usd == 65


@dataclass(slots=True)
class _Clock:
    """ports.Clock that moves when told."""

    now_s: float = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_us(self) -> int:
        return AT_US + int(self.now_s * 1_000_000)


class _Enough(Exception):
    """The test has seen what it wanted to see."""


async def test_the_watch_reads_at_once_then_every_few_seconds_and_soon_after_an_edit() -> None:
    ledger, book = await _books(30)
    budgets, slot, clock = SpentBudgets(), PolicySlot(_policy("research")), _Clock()
    seen: list[dict[str, float]] = []

    async def pause(seconds: float) -> None:
        seen.append({name: each.used for name, each in budgets.view(slot.current, at=NOON).items()})
        clock.now_s += seconds
        if len(seen) == 1:
            await ledger.book([encode(_another())])
        if len(seen) == 7:
            ledger.away = True
        if len(seen) == 8:
            ledger.away = False
            slot.swap(_policy("research", "legal"))
        if len(seen) == 9:
            raise _Enough
        await asyncio.sleep(0)

    with pytest.raises(_Enough):
        await watch_budgets(book, budgets, slot, clock=clock, pause=pause)
    assert seen[0] == {"research": 0.3}
    assert seen[int(READ_EVERY_S) - 1] == {"research": 0.3}
    assert seen[int(READ_EVERY_S)] == {"research": 0.4}
    assert seen[7] == {"research": 0.4}
    assert seen[8] == {"research": 0.4, "legal": 0}


def _another() -> Receipt:
    receipt = a_receipt(an_attempt(charge=Nanodollars(10 * USD)), at_us=AT_US)
    identity = receipt.request_id[:-1] + "2"
    attempt = replace(receipt.attempts[0], attempt_id=f"{identity}/1")
    return replace(receipt, request_id=identity, facts=replace(receipt.facts, request_id=identity), attempts=(attempt,))
