"""`app.storage.budget_book` step by step beside `app.domain.ledger.account`: every row is the same after every call."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from app.domain.budget import Every, period
from app.domain.money import Nanodollars
from app.storage.budget_book import PostgresBudgetBook
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.receipt_json import encode
from tests.books import said
from tests.fakes.budget_book import MemoryBudgetBook
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.makers import NOON
from tests.ports.budget_book_suite import a_budget, told, wanting

HOLDERS = st.sampled_from(["h1", "h2"])
MONEY = st.integers(0, 200)


class BesideTheAccount(RuleBasedStateMachine):
    """The same calls to Postgres and to the book over `Account`; every row is compared after every step."""

    examples = itertools.count(1)

    def __init__(self, url: str, runner: asyncio.Runner, database: Database) -> None:
        super().__init__()
        self.url, self.runner, self.database = url, runner, database
        #: What examples before this one booked is another key's.
        self.key = f"k{next(self.examples)}"
        self.numbers = itertools.count(int(self.key[1:]) * 10_000)
        self.real, self.real_ledger = PostgresBudgetBook(database), PostgresLedgerBook(database)
        self.ledger = MemoryLedgerBook()
        self.model = MemoryBudgetBook(self.ledger)
        self.booked: list[Any] = []
        self.budgets = [
            a_budget(self.key, key=self.key),
            a_budget(self.key, key=self.key, model="embed", every=Every.WEEK),
            a_budget(self.key, key=self.key, tag="batch", every=Every.MONTH),
        ]

    def say(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def compare(self) -> None:
        rows = self.say(
            said(
                self.url,
                "select account, begin_at, cap, spent, overrun from budget_account where key_id = $1",
                self.key,
            )
        )
        leases = self.say(
            said(
                self.url,
                "select l.* from budget_lease l join budget_account a using (account, begin_at) where a.key_id = $1",
                self.key,
            )
        )
        self.say(self.model.standings([]))  # what was booked is settled before it answers
        kept = self.model.kept
        assert {(row["account"], row["begin_at"]): (row["cap"], row["spent"], row["overrun"]) for row in rows} == {
            place: (one.account.cap, one.account.spent, one.account.overrun) for place, one in kept.items()
        }
        assert {
            (row["account"], row["begin_at"], row["holder"]): tuple(
                row[name] for name in ("granted", "returned", "used", "state")
            )
            for row in leases
        } == {
            (*place, lease.holder): (lease.granted, lease.returned, lease.used, lease.state.value)
            for place, one in kept.items()
            for lease in one.account.leases.values()
        }

    @rule(
        holder=HOLDERS,
        asked=st.lists(
            st.tuples(st.integers(0, 2), st.integers(-1, 0), MONEY, MONEY, MONEY, st.sampled_from([1_000, 300])),
            max_size=4,
        ),
    )
    def lease(self, holder: str, asked: list[tuple[int, int, int, int, int, int]]) -> None:
        wanted = []
        for place, periods, need, want, returned, cap in asked:
            budget = replace(self.budgets[place], amount=Nanodollars(cap))
            begin, end = period(budget.every, at=NOON + timedelta(days=40 * periods))
            wanted.append(wanting(budget, need=need, want=want, returned=returned, begin=begin, end=end))
        answers = [self.say(book.lease(wanted, holder=holder)) for book in (self.real, self.model)]
        assert answers[0] == answers[1]
        assert self.say(self.real.standings(wanted)) == self.say(self.model.standings(wanted))
        self.compare()

    @rule(
        given_=st.lists(
            st.tuples(
                st.sampled_from(["chat", "embed"]),
                st.sampled_from([(), ("batch",)]),
                st.integers(-5, 150),
                st.lists(st.tuples(st.integers(0, 2), HOLDERS, MONEY), max_size=3, unique_by=lambda one: one[0]),
                st.sampled_from([0, -1, -40]),
            ),
            max_size=4,
        )
    )
    def book(self, given_: list[tuple[str, tuple[str, ...], int, list[tuple[int, str, int]], int]]) -> None:
        receipts = [
            told(
                next(self.numbers),
                charge,
                *((self.budgets[place], holder, amount) for place, holder, amount in holds),
                at=NOON + timedelta(days=days),
                model=model,
                key_id=self.key,
                tags=tags,
            )
            for model, tags, charge, holds, days in given_
        ]
        rows = [encode(receipt) for receipt in receipts]
        assert self.say(self.real_ledger.book(rows)) == self.say(self.ledger.book(rows)) == len(rows)
        assert self.say(self.real_ledger.book(rows)) == self.say(self.ledger.book(rows)) == 0
        self.booked.extend(receipts)
        self.compare()

    @rule(holder=HOLDERS)
    def let_lapse_and_sweep(self, holder: str) -> None:
        self.say(said(self.url, "update budget_lease set expires_at = now() where holder = $1", holder))
        for one in self.model.kept.values():
            if holder in one.account.leases:
                one.account.leases[holder].expires_us = 0
        self.say(self.real.sweep())  # those of other examples too
        self.say(self.model.sweep())
        self.compare()

    @rule(holder=st.sampled_from(["h1", "h2", "h3"]))
    def close(self, holder: str) -> None:
        self.say(self.real.close(holder))
        self.say(self.model.close(holder))
        self.compare()

    def teardown(self) -> None:
        self.say(said(self.url, "delete from budget_gone"))
        self.say(said(self.url, "update budget_lease set expires_at = 'infinity' where state <> 'closed'"))


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as own:
        yield own


def test_step_by_step_the_database_does_what_the_account_does(books_url: str, runner: asyncio.Runner) -> None:
    database = Database(books_url)
    runner.run(database.__aenter__())
    try:
        run_state_machine_as_test(
            lambda: BesideTheAccount(books_url, runner, database),
            settings=settings(
                max_examples=25,
                stateful_step_count=20,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],  # shrinking would take longer than a test may
            ),
        )
    finally:
        runner.run(database.__aexit__(None, None, None))
