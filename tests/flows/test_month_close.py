"""`app.flows.month_close`: closed once, in order, and proved again whenever somebody asks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.domain.ledger.month import NO_MONTH_BEFORE, Month, MonthPart, MonthStaysOpen
from app.flows.month_close import close_month, verify_months
from app.ports import BooksAway
from tests.fakes.month_book import MemoryMonthBook
from tests.makers import NOON

SEPTEMBER, OCTOBER = (Month(year=2026, number=number) for number in (9, 10))
PART = MonthPart(name="attempts", rows=3, amount=40, digest="ab")


@pytest.fixture
def book() -> MemoryMonthBook:
    book = MemoryMonthBook(now=NOON)
    book.held = {SEPTEMBER: (PART,), OCTOBER: (replace(PART, rows=9),)}
    return book


async def test_each_closed_month_holds_the_digest_of_the_one_before(book: MemoryMonthBook) -> None:
    first = (await close_month(book, SEPTEMBER, by="me")).closed
    second = (await close_month(book, OCTOBER, by="me")).closed
    assert (first.previous, second.previous) == (NO_MONTH_BEFORE, first.digest)
    assert [each.faults for each in await verify_months(book)] == [(), ()]


async def test_a_close_that_stopped_half_way_goes_on_where_it_was(book: MemoryMonthBook) -> None:
    await book.seal(SEPTEMBER, by="me")
    assert (await close_month(book, SEPTEMBER, by="me")).closed.parts == (PART,)
    with pytest.raises(MonthStaysOpen, match="closed already"):
        await close_month(book, SEPTEMBER, by="me")


async def test_processes_that_may_still_have_facts_of_it_are_counted(book: MemoryMonthBook) -> None:
    book.keepers[SEPTEMBER] = 2
    assert (await close_month(book, SEPTEMBER, by="me")).unfinished == 2


async def test_a_month_that_changed_is_told_and_the_others_are_not(book: MemoryMonthBook) -> None:
    await close_month(book, SEPTEMBER, by="me")
    await close_month(book, OCTOBER, by="me")
    book.held[SEPTEMBER] = (replace(PART, amount=41),)
    was, other = await verify_months(book)
    assert len(was.faults) == 1
    assert other.faults == ()
    assert await verify_months(book, OCTOBER) == (other,)


async def test_a_month_that_is_not_closed_cannot_be_verified(book: MemoryMonthBook) -> None:
    assert await verify_months(book) == ()
    with pytest.raises(MonthStaysOpen, match="month close 2026-10"):
        await verify_months(book, OCTOBER)


async def test_before_the_books_begin_there_is_nothing_to_verify(book: MemoryMonthBook) -> None:
    august = Month.read("2026-08")
    with pytest.raises(MonthStaysOpen, match="nothing was booked in 2026-08: the books begin with 2026-09"):
        await verify_months(book, august)


async def test_somebody_who_seals_another_month_first_is_noticed(book: MemoryMonthBook) -> None:
    class Outrun(MemoryMonthBook):
        async def seal(self, month: Month, *, by: str) -> bool:
            return False

    outrun = Outrun(now=NOON)
    outrun.held = book.held
    with pytest.raises(MonthStaysOpen, match="somebody else"):
        await close_month(outrun, SEPTEMBER, by="me")


async def test_books_that_are_away_close_nothing(book: MemoryMonthBook) -> None:
    book.away = True
    with pytest.raises(BooksAway):
        await close_month(book, SEPTEMBER, by="me")
