"""A stream that runs over the end of a budget's month: in one process, as only there the clock can be set, over a real
Postgres."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

from app.domain.budget import Budget, Every
from app.domain.ledger.month import Month
from app.domain.ledger.receipt import Receipt
from app.domain.money import Nanodollars
from app.flows.answer import answer
from app.flows.hold import Treasury
from app.flows.month_close import close_month, verify_months
from app.live.wallet import Wallet
from app.providers.scripted import Script
from app.storage.budget_book import PostgresBudgetBook
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.month_book import PostgresMonthBook
from app.storage.receipt_json import encode
from app.system import RandomIds, SystemClock
from tests.books import said
from tests.command_line import breakeven
from tests.flows.house import Caller, House, a_house, asked
from tests.makers import a_policy, a_route, a_target

OCTOBER = Month(year=2026, number=10)
#: Before the end of the month, when the first requests come; a stream takes longer than that once the clock is moved.
BEFORE_US = 200_000
HOLDER = "this-home"
BUDGET = Budget(name="team", amount=Nanodollars(10**9), every=Every.MONTH, team="research")


@dataclass(slots=True)
class MovedClock(SystemClock):
    """The monotonic clock goes on; the wall clock stands where it was put."""

    wall_us: int = 0

    def unix_us(self) -> int:
        return self.wall_us


class Late(Caller):
    """The month ends while this caller reads."""

    def __init__(self, clock: MovedClock, meanwhile: asyncio.Event) -> None:
        super().__init__()
        self._clock, self._meanwhile = clock, meanwhile

    async def write(self, raw: bytes) -> None:
        await super().write(raw)
        if len(self.sent) == 20:
            self._clock.wall_us = _end_us()
            await self._meanwhile.wait()


def _end_us() -> int:
    return int(OCTOBER.end.timestamp() * 1e6)


def _house(clock: MovedClock) -> House:
    policy = replace(
        a_policy(a_target("home", context_tokens=8_192), route=a_route("home", output_tokens_most=500)),
        budgets={BUDGET.name: BUDGET},
    )
    house = a_house({"home": [Script(words=("word",) * 40)]}, policy=policy)
    treasury = Treasury(clock=clock, wallet=Wallet(holder=HOLDER), policy=house.gateway.policy)
    house.gateway = replace(house.gateway, clock=clock, treasury=treasury)
    return house


@contextlib.asynccontextmanager
async def _kept(house: House, book: PostgresBudgetBook) -> AsyncIterator[None]:
    keeping = asyncio.ensure_future(house.gateway.treasury.keep(book))
    try:
        yield
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        await house.gateway.treasury.leave(book)


async def _answered(house: House, caller: Caller) -> Receipt:
    request_id = RandomIds().request_id(at_us=house.gateway.clock.unix_us())
    await answer(asked(house, request_id=request_id, stream=True), caller, house.gateway)
    return next(each for each in house.told.receipts if each.request_id == request_id)


async def test_a_stream_over_the_end_of_a_month_is_held_and_spent_in_the_month_it_began_in_though_that_is_closed(
    database: Database, books_url: str, tmp_path: Path
) -> None:
    clock, month_is_over = MovedClock(wall_us=_end_us() - BEFORE_US), asyncio.Event()
    house, months = _house(clock), PostgresMonthBook(database)
    books, ledger = PostgresBudgetBook(database), PostgresLedgerBook(database)
    async with _kept(house, books):
        first = await _answered(house, Caller())
        await ledger.book([encode(first)])
        running = asyncio.create_task(_answered(house, caller := Late(clock, month_is_over)))
        while clock.wall_us < _end_us():
            await asyncio.sleep(0.01)
        closing = await close_month(months, OCTOBER, by="finance")
        assert closing.unfinished == 1
        after = await _answered(house, Caller())
        month_is_over.set()
        over = await running
        assert caller.ended
    assert await ledger.book([encode(receipt) for receipt in (over, after)] * 2) == 2
    await books.close(HOLDER)
    assert over.at_us < _end_us() <= after.at_us
    assert {hold.account for receipt in (over, after) for hold in receipt.holds} == {BUDGET.account}
    accounts = await said(books_url, "select begin_at, spent, overrun from budget_account order by begin_at")
    assert [(Month.of(each["begin_at"]).number, each["spent"], each["overrun"]) for each in accounts] == [
        (10, first.charge + over.charge, 0),
        (11, after.charge, 0),
    ]
    (late,) = await said(books_url, "select request_id, booked_for from receipt where booked_for is not null")
    assert str(late["request_id"]) == over.request_id
    assert late["booked_for"] >= OCTOBER.end
    assert not await said(books_url, "select 1 from budget_lease where state <> 'closed'")
    assert [each.faults for each in await verify_months(months)] == [()]
    proof = await asyncio.to_thread(breakeven, "verify", "--json", DATABASE_URL=books_url, BREAKEVEN_DATA=str(tmp_path))
    assert [each for each in proof.value["invariants"] if not each["holds"]] == []
