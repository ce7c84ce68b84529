"""`app.flows.ship`: whatever Postgres does, every receipt is in the books exactly once or in quarantine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.errors import LedgerUnavailable
from app.domain.ledger.receipt import Receipt
from app.flows.ship import BACK_OFF_FIRST_S, BACK_OFF_MOST_S, BATCH_MOST, LINGER_S, drain, ship
from app.ports import BooksAway, RowsRefused, Shipment
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.receipt_json import encode
from app.storage.spool import SpoolLimits
from tests.fakes.journal import MemoryJournal
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.loop_clock import LoopClock
from tests.storage.spool_pieces import crashed, intended, opened, settled


class FlakyBook(MemoryLedgerBook):
    """Fails as often as the weather says: before it booked, or after, when the answer is lost on its way."""

    def __init__(self, weather: Random | None = None, *, share: float = 0.0) -> None:
        super().__init__()
        self._weather = weather
        self._share = share
        self.batches: list[int] = []

    async def book(self, receipts: Sequence[bytes]) -> int:
        await asyncio.sleep(0)
        self.batches.append(len(receipts))
        if self._bad_weather():
            raise BooksAway("the connection broke before")
        inserted = await super().book(receipts)
        if self._bad_weather():
            raise BooksAway("the connection broke after")
        return inserted

    def _bad_weather(self) -> bool:
        return self._weather is not None and self._weather.random() < self._share


class Watcher:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.inserted = 0
        self.answers = 0
        self.away = 0

    def shipped(self, count: int) -> None:
        self.inserted += count
        self.answers += 1

    def books_away(self) -> None:
        self.away += 1


class Pauses:
    """Sleeps no time at all, and remembers how long it was asked to."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await asyncio.sleep(0)

    @property
    def back_offs(self) -> list[float]:
        return [seconds for seconds in self.asked if seconds != LINGER_S]


@contextlib.asynccontextmanager
async def shipping(
    journal: MemoryJournal, book: MemoryLedgerBook, *, watcher: Watcher | None = None, pauses: Pauses | None = None
) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        work = ship(journal, book, listener=watcher or Watcher(), jitter=lambda: 0.0, pause=pauses or Pauses())
        task = tasks.create_task(work)
        yield
        task.cancel()


async def until_empty(journal: MemoryJournal) -> None:
    async with asyncio.timeout(30):
        while journal.depth:
            await asyncio.sleep(0)


def unbookable(number: int) -> Receipt:
    """A receipt that no database can keep."""
    return replace(settled(number), caller_label="a zero byte: \0")


async def test_what_is_settled_reaches_the_books_by_itself() -> None:
    journal, book, watcher = MemoryJournal(), MemoryLedgerBook(), Watcher()
    async with shipping(journal, book, watcher=watcher):
        for number in range(3):
            await journal.settle(settled(number))
        await until_empty(journal)
    assert list(book.receipts.values()) == [settled(number) for number in range(3)]
    assert watcher.inserted == 3
    assert watcher.away == 0


async def test_what_arrives_together_travels_together_and_never_more_than_the_most() -> None:
    journal, book = MemoryJournal(), FlakyBook()
    for number in range(1100):
        await journal.settle(settled(number))
    async with shipping(journal, book):
        await until_empty(journal)
    assert book.batches == [BATCH_MOST, BATCH_MOST, 100]


async def test_a_first_receipt_waits_a_moment_for_company() -> None:
    journal, book, pauses = MemoryJournal(), FlakyBook(), Pauses()
    async with shipping(journal, book, pauses=pauses):
        await journal.settle(settled(1))
        await until_empty(journal)
    assert pauses.asked[0] == LINGER_S <= 0.15


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.1, 0.5, 0.8]), bad=st.sets(st.integers(0, 39), max_size=5))
def test_in_any_weather_every_receipt_is_booked_once_or_in_quarantine_once(
    seed: int, share: float, bad: set[int]
) -> None:
    async def run() -> None:
        journal, book, watcher = MemoryJournal(), FlakyBook(Random(seed), share=share), Watcher()
        receipts = [unbookable(number) if number in bad else settled(number) for number in range(40)]
        async with shipping(journal, book, watcher=watcher):
            for receipt in receipts:
                await journal.settle(receipt)
                await asyncio.sleep(0)
            await until_empty(journal)
        good = [receipt for number, receipt in enumerate(receipts) if number not in bad]
        assert book.receipts == {receipt.request_id: receipt for receipt in good}
        assert sum(one.charge for one in book.receipts.values()) == sum(one.charge for one in good)
        assert sorted(raw for raw, _ in journal.disk.rejected) == sorted(encode(unbookable(number)) for number in bad)

    asyncio.run(run())


async def test_the_same_batch_is_sent_again_and_again_until_postgres_is_back() -> None:
    journal, book, watcher, pauses = MemoryJournal(), MemoryLedgerBook(), Watcher(), Pauses()
    book.away = True
    async with shipping(journal, book, watcher=watcher, pauses=pauses):
        await journal.settle(settled(1))
        while watcher.away < 9:
            await asyncio.sleep(0)
        assert journal.depth == 1
        book.away = False
        await until_empty(journal)
        book.away = True
        await journal.settle(settled(2))
        while watcher.away < 10:
            await asyncio.sleep(0)
        book.away = False
        await until_empty(journal)
    doubling = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert pauses.back_offs[:9] == pytest.approx(doubling)
    assert pauses.back_offs[-1] == pytest.approx(BACK_OFF_FIRST_S), "after an answer the patience begins anew"
    assert max(pauses.back_offs) <= BACK_OFF_MOST_S


async def test_chance_shortens_a_pause_by_half_at_most() -> None:
    journal, book, pauses = MemoryJournal(), MemoryLedgerBook(), Pauses()
    book.away = True
    await journal.settle(settled(1))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(ship(journal, book, listener=Watcher(), jitter=lambda: 0.999, pause=pauses))
        while len(pauses.back_offs) < 3:
            await asyncio.sleep(0)
        task.cancel()
    assert pauses.back_offs[:3] == pytest.approx([0.05, 0.1, 0.2], rel=0.01)


async def test_one_bad_row_of_a_full_batch_is_found_in_few_steps_and_all_others_are_booked() -> None:
    journal, book = MemoryJournal(), FlakyBook()
    for number in range(500):
        await journal.settle(unbookable(number) if number == 321 else settled(number))
    async with shipping(journal, book):
        await until_empty(journal)
    assert len(book.receipts) == 499
    assert [raw for raw, _ in journal.disk.rejected] == [encode(unbookable(321))]
    assert "zero byte" in journal.disk.rejected[0][1]
    assert len(book.batches) <= 20


async def test_postgres_going_away_in_the_middle_of_a_search_puts_no_row_aside_twice() -> None:
    class AwayAfterARefusal(FlakyBook):
        async def book(self, receipts: Sequence[bytes]) -> int:
            try:
                return await super().book(receipts)
            except RowsRefused:
                self.away = len(receipts) > 1
                raise

        def answer_or_be_away(self) -> None:
            was_away, self.away = self.away, False
            if was_away:
                raise BooksAway("gone in the middle")

    journal, book, watcher = MemoryJournal(), AwayAfterARefusal(), Watcher()
    for number in range(16):
        await journal.settle(unbookable(number) if number in (3, 11) else settled(number))
    async with shipping(journal, book, watcher=watcher):
        await until_empty(journal)
    assert watcher.away > 2
    assert len(book.receipts) == 14
    assert len(journal.disk.rejected) == 2


async def test_a_row_that_cannot_be_put_aside_now_is_not_forgotten() -> None:
    class FullDisk(MemoryJournal):
        refusals = 3

        def quarantine(self, receipt: bytes, *, reason: str) -> None:
            if self.refusals:
                self.refusals -= 1
                raise LedgerUnavailable("no space left: free some")
            super().quarantine(receipt, reason=reason)

        async def next_shipment(self, *, most: int) -> Shipment | None:
            if self.refusals == 3:
                self.refusals -= 1
                raise LedgerUnavailable("no space left: free some")
            return await super().next_shipment(most=most)

    journal, book = FullDisk(), MemoryLedgerBook()
    await journal.settle(unbookable(1))
    async with shipping(journal, book):
        await until_empty(journal)
    assert len(journal.disk.rejected) == 1
    assert journal.refusals == 0


async def test_cancelled_in_the_middle_of_a_batch_nothing_is_lost_and_nothing_is_doubled() -> None:
    class SlowBook(MemoryLedgerBook):
        async def book(self, receipts: Sequence[bytes]) -> int:
            inserted = await super().book(receipts)
            await asyncio.sleep(3600)
            return inserted

    journal, slow = MemoryJournal(), SlowBook()
    await journal.settle(settled(1))
    async with shipping(journal, slow):
        while not slow.receipts:
            await asyncio.sleep(0)
    assert journal.depth == 1
    watcher = Watcher()
    async with shipping(journal, book_with(slow.receipts), watcher=watcher):
        await until_empty(journal)
    assert (watcher.inserted, watcher.answers) == (0, 1)


def book_with(receipts: dict[str, Receipt]) -> MemoryLedgerBook:
    book = MemoryLedgerBook()
    book.receipts = dict(receipts)
    return book


async def test_draining_books_what_is_there_and_returns() -> None:
    journal, book, watcher = MemoryJournal(), MemoryLedgerBook(), Watcher()
    for number in range(700):
        await journal.settle(settled(number))
    await drain(journal, book, within_s=30, listener=watcher)
    assert journal.depth == 0
    assert watcher.inserted == len(book.receipts) == 700


async def test_draining_gives_up_when_its_time_is_up_and_leaves_the_rest_where_it_is() -> None:
    journal, book, watcher = MemoryJournal(), MemoryLedgerBook(), Watcher()
    book.away = True
    await journal.settle(settled(1))
    clock = LoopClock()
    draining = asyncio.create_task(drain(journal, book, within_s=60, listener=watcher))
    async with asyncio.timeout(30):
        while not watcher.away:
            await asyncio.sleep(0.001)
    assert not draining.done()
    await clock.pass_s(60)
    async with asyncio.timeout(30):
        await draining
    assert journal.depth == 1


async def test_the_real_spool_is_shipped_through_storms_and_restarts_to_the_exact_sum(tmp_path: Path) -> None:
    book, watcher = FlakyBook(Random(7), share=0.3), Watcher()
    for generation in range(3):
        limits = SpoolLimits(segment=32_768, reserve=0)
        async with opened(tmp_path, limits=limits) as spool, asyncio.TaskGroup() as tasks:
            pauses = Pauses()
            task = tasks.create_task(ship(spool, book, listener=watcher, jitter=lambda: 0.0, pause=pauses))
            for number in range(generation * 100, generation * 100 + 100):
                spool.intend(intended(number))
                if number % 10:
                    await spool.settle(settled(number))
            task.cancel()
    async with opened(tmp_path) as spool:
        await drain(spool, book, within_s=60, listener=watcher, pause=Pauses())
        assert spool.depth == 0
    expected = [settled(number) if number % 10 else intended(number) for number in range(300)]
    assert book.receipts == {receipt.request_id: receipt for receipt in expected}


async def test_the_real_spool_sent_ten_times_to_the_real_postgres_is_booked_once(
    tmp_path: Path, database: Database
) -> None:
    book, watcher = PostgresLedgerBook(database), Watcher()
    async with opened(tmp_path / "spool") as spool:
        for number in range(50):
            spool.intend(intended(number))
            if number % 10:
                await spool.settle(settled(number))
        for copy in range(10):
            async with opened(crashed(tmp_path / "spool", tmp_path / str(copy))) as next_one:
                await drain(next_one, book, within_s=60, listener=watcher)
                assert next_one.depth == next_one.quarantined == 0
    assert watcher.inserted == 50
    booked = {receipt.request_id: receipt for receipt in await book.latest(most=100)}
    expected = [settled(number) if number % 10 else intended(number) for number in range(50)]
    assert booked == {receipt.request_id: receipt for receipt in expected}
