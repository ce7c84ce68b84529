"""Whatever goes wrong, what was held for a request is free again, and what was dispatched is booked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from app.domain.budget import Budget, Every
from app.domain.errors import LedgerUnavailable
from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.flows.answer import answer
from app.flows.settle import settle
from app.live.shadows import Dropped
from app.providers.scripted import Script
from tests.fakes.budget_book import MemoryBudgetBook
from tests.fakes.journal import MemoryJournal
from tests.flows.house import Caller, House, a_house, asked
from tests.flows.test_hold import a_budget, under
from tests.flows.test_shadow import _dropped, _house, _sending, _until


class WornOut(MemoryJournal):
    """Takes intents and can make nothing durable."""

    async def settle(self, receipt: Receipt) -> None:
        raise LedgerUnavailable("the disk is worn out: replace it")


@asynccontextmanager
async def _funded(house: House) -> AsyncIterator[MemoryBudgetBook]:
    book = MemoryBudgetBook()
    task = asyncio.create_task(house.gateway.treasury.keep(book))
    try:
        yield book
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _held(house: House, book: MemoryBudgetBook) -> int:
    """What this process keeps of its leases beyond what it spent, once all that is free went back."""
    await house.gateway.treasury.leave(book)
    return sum(each.account.standing().leased for each in book.kept.values())


async def test_a_receipt_that_could_not_be_made_durable_holds_nothing_more_than_it_cost() -> None:
    house = a_house(policy=under(a_budget()))
    house = replace(house, gateway=replace(house.gateway, journal=WornOut()))
    async with _funded(house) as book:
        with pytest.raises(LedgerUnavailable, match="worn out"):
            await answer(asked(house), Caller(), house.gateway)
        (intent,) = house.gateway.journal.disk.intents.values()  # type: ignore[attr-defined]
        assert 0 < await _held(house, book) < intent.holds[0].amount


async def test_a_receipt_without_an_attempt_that_is_kept_nowhere_holds_nothing() -> None:
    house = a_house(policy=under(a_budget()))
    async with _funded(house) as book:
        await answer(asked(house), Caller(), house.gateway)
        (receipt,) = house.told.receipts
        worn_out = replace(house.gateway, journal=WornOut())
        holds = house.gateway.treasury.hold_now(
            [(a_budget(), Nanodollars(1_000))], at=house.gateway.snapshot(at_us=receipt.at_us).at
        )
        assert isinstance(holds, tuple)
        with pytest.raises(LedgerUnavailable):
            await settle(replace(receipt, attempts=(), holds=holds), worn_out)
        assert await _held(house, book) == receipt.charge


@pytest.mark.parametrize("stream", [False, True])
async def test_a_bug_after_the_dispatch_is_booked_as_interrupted_and_frees_its_hold(stream: bool) -> None:
    house = a_house({"home": [Script(words=("one", "two"))]}, policy=under(a_budget()))

    class Broken(Caller):
        """Its connection has a mistake in it."""

        async def begin(self, opening: object) -> None:
            raise ZeroDivisionError("a bug")

    async def body_with_a_bug() -> object:
        raise ZeroDivisionError("a bug")

    if not stream:
        opened = house.provider.open

        async def open_broken(call: object) -> object:
            whole = await opened(call)  # type: ignore[arg-type]
            whole.body = body_with_a_bug  # type: ignore[method-assign, assignment]
            return whole

        house.provider.open = open_broken  # type: ignore[method-assign, assignment]
    async with _funded(house) as book:
        with pytest.raises(ZeroDivisionError):
            await answer(asked(house, stream=stream), Broken(), house.gateway)
        (receipt,) = house.told.receipts
        assert receipt.outcome is Outcome.INTERRUPTED
        assert len(receipt.attempts) == 1
        assert not house.journal.disk.intents
        assert await _held(house, book) == receipt.charge


async def test_a_copy_whose_intent_is_refused_holds_nothing() -> None:
    house = _house()
    budget = Budget(name="team", amount=Nanodollars(10**12), every=Every.DAY)
    house.gateway.policy.swap(replace(house.gateway.policy.current, budgets={"team": budget}))
    async with _funded(house) as book:
        async with _sending(house) as bugs:
            await answer(asked(house), Caller(), house.gateway)
            (receipt,) = house.told.receipts
            house.journal.full = True
            await _until(lambda: _dropped(house, Dropped.NO_ROOM) == 1)
        assert not bugs
        assert await _held(house, book) == receipt.charge
