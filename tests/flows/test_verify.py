"""`app.flows.verify` and `app.flows.budget_standings`, on books in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import replace

from app.domain.budget import Budget, Every
from app.domain.ledger.invariants import Checked, Invariant
from app.domain.money import Nanodollars
from app.flows.budget_standings import budget_standings
from app.flows.verify import verified
from app.ports.ledger import LeaseWanted
from tests.fakes.budget_book import MemoryBudgetBook
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.fakes.month_book import MemoryMonthBook
from tests.fakes.spend_book import MemorySpendBook
from tests.makers import NOON, a_policy

BUDGET = Budget(name="all", amount=Nanodollars(1_000), every=Every.MONTH)


class TwoChecks:
    """ports.ledger.VerifyBook that finds what it is told."""

    async def checks(self, *, soft_accounts: Collection[str] = ()) -> AsyncIterator[Checked]:
        yield Checked(invariant=Invariant.UNIQUE, rows=3, violations=1, named=("twice",))
        yield Checked(invariant=Invariant.CLOSED_MONTHS, rows=0, violations=0)


async def test_every_line_is_passed_on_and_closed_months_are_added_up_again() -> None:
    found = [each async for each in verified(TwoChecks(), MemoryMonthBook(now=NOON))]
    assert [(each.invariant, each.holds) for each in found] == [
        (Invariant.UNIQUE, False),
        (Invariant.CLOSED_MONTHS, True),
    ]


async def test_a_budget_stands_as_its_account_says_or_as_the_books_say_where_there_is_none() -> None:
    ledger = MemoryLedgerBook()
    book, spend = MemoryBudgetBook(ledger), MemorySpendBook(ledger)
    policy = replace(a_policy(), budgets={"all": BUDGET})
    (before,) = await budget_standings(policy, book, spend, at_s=NOON.timestamp())
    assert (before.spent, before.held, before.left, before.used_up_at) == (0, 0, 1_000, None)
    wanted = LeaseWanted(budget=BUDGET, begin=before.begin, end=before.end, need=Nanodollars(300))
    await book.lease([wanted], holder="here")
    (after,) = await budget_standings(policy, book, spend, at_s=NOON.timestamp())
    assert (after.held, after.left) == (300, 700)
