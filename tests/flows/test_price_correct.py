"""`app.flows.price_correct`, over real books: exactly what a new price touches moves, and the old report stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from app.domain.ledger.month import Month
from app.domain.ledger.report import CostQuery, CostReport, Dimension, compiled
from app.domain.ledger.rerating import Rated
from app.domain.pricing.charge import charge
from app.domain.pricing.rate_card import RateCard
from app.domain.pricing.terms import ContextTier, Sheet, Terms
from app.domain.usage import Usage
from app.flows.month_close import close_month, verify_months
from app.flows.price_correct import Corrected, Correcting, correct_prices
from app.flows.verify import verified
from app.ports.corrections import RatedQuery
from app.storage.adjustment_book import PostgresAdjustmentBook
from app.storage.engine import Database
from app.storage.ledger_book import PostgresLedgerBook
from app.storage.month_book import PostgresMonthBook
from app.storage.price_book import PostgresPriceBook
from app.storage.rated_book import PostgresRatedBook
from app.storage.report_book import PostgresReportBook
from app.storage.verify_book import PostgresVerifyBook
from app.system import SystemClock
from tests.books import said
from tests.makers import CARD, CHEAP, an_attempt
from tests.ports.adjustment_book_suite import a_correction
from tests.ports.ledger_book_suite import receipt, request_id, rows
from tests.storage.test_month_book import a_receipt_of_october

NOVEMBER = RatedQuery(since=datetime(2026, 11, 1, tzinfo=UTC), until=datetime(2026, 12, 1, tzinfo=UTC))
USAGE = Usage(prompt=900, output=100, cached=128)
#: Two nanodollars the prompt token, and from 1,000 tokens on four.
TIERED = RateCard.under(
    Terms.of(
        Sheet(prompt=Decimal("0.002"), cached_prompt=Decimal(0), output=Decimal("0.01")),
        context_tiers=(
            ContextTier(
                above_tokens=1000,
                sheet=Sheet(prompt=Decimal("0.004"), cached_prompt=Decimal(0), output=Decimal("0.02")),
            ),
        ),
    )
)


def books_of(database: Database) -> Correcting:
    return Correcting(
        rated=PostgresRatedBook(database, batch_most=3),
        adjustments=PostgresAdjustmentBook(database),
        prices=PostgresPriceBook(database),
        clock=SystemClock(),
    )


async def correct(
    database: Database, card: RateCard | None, *, query: RatedQuery = NOVEMBER, dry_run: bool = False
) -> Corrected:
    return await correct_prices(
        books_of(database),
        query,
        new_price=lambda target, day: card if target == "home" else None,
        reason="the seller's invoice",
        by="finance",
        dry_run=dry_run,
    )


async def report(database: Database, *, as_of: datetime | None = None, by: Dimension = Dimension.TARGET) -> CostReport:
    query = CostQuery(since=NOVEMBER.since, until=NOVEMBER.until, by=(by,), as_of=as_of)
    books = await PostgresReportBook(database).read(query)
    return compiled(query=query, lines=books.lines, by_hosting=books.by_hosting, ledger_charge=books.ledger_charge)


async def now_of(books_url: str) -> datetime:
    (row,) = await said(books_url, "select clock_timestamp()")
    moment: datetime = row[0]
    return moment


async def book_seven(database: Database) -> None:
    """Five at home by the old card, one there that costs by the new one already, one elsewhere."""
    at_home = [receipt(number) for number in range(5)]
    already = replace(
        receipt(5),
        attempts=(
            an_attempt(
                attempt_id=f"{request_id(5)}/1", charge=charge(usage=USAGE, price=CHEAP), rate_card_digest=CHEAP.digest
            ),
        ),
    )
    elsewhere = replace(receipt(6), attempts=(an_attempt(attempt_id=f"{request_id(6)}/1", target="away"),))
    await PostgresLedgerBook(database).book(rows([*at_home, already, elsewhere]))


async def all_invariants_hold(database: Database) -> bool:
    checks = verified(PostgresVerifyBook(database), PostgresMonthBook(database))
    return all([checked.holds async for checked in checks])


async def test_only_what_the_new_price_touches_moves_and_to_the_last_nanodollar(
    database: Database, books_url: str
) -> None:
    await book_seven(database)
    result = await correct(database, CHEAP)
    assert (result.attempts, result.touched, result.booked) == (7, 5, 5)
    assert result.without_price == {"away": 1}
    old, new = (charge(usage=USAGE, price=card) for card in (CARD, CHEAP))
    (part,) = result.parts
    assert (part.card_before, part.card_after) == (CARD.digest, CHEAP.digest)
    assert (part.before, part.after, result.difference) == (5 * old, 5 * new, 5 * (new - old))
    sums = {line.group: line.sums.charge for line in (await report(database)).lines}
    assert sums == {("home",): 6 * new, ("away",): old}
    touched = await said(books_url, "select attempt_id, reason, by from adjustment order by attempt_id")
    assert [tuple(row) for row in touched] == [
        (f"{request_id(number)}/1", "the seller's invoice", "finance") for number in range(5)
    ]
    assert await PostgresPriceBook(database).find(CHEAP.digest) is not None
    assert await all_invariants_hold(database)


async def test_a_second_run_changes_nothing_and_the_old_price_comes_back_to_the_old_sum(database: Database) -> None:
    await book_seven(database)
    before = (await report(database)).total.charge
    await correct(database, CHEAP)
    after = (await report(database)).total.charge
    again = await correct(database, CHEAP)
    assert (again.touched, again.booked) == (0, 0)
    assert (await report(database)).total.charge == after
    back = await correct(database, CARD)
    assert back.touched == 6
    assert (await report(database)).total.charge == before + charge(usage=USAGE, price=CARD) - charge(
        usage=USAGE, price=CHEAP
    )


async def test_a_dry_run_says_the_same_and_books_nothing(database: Database, books_url: str) -> None:
    await book_seven(database)
    tried = await correct(database, CHEAP, dry_run=True)
    assert await said(books_url, "select 1 from adjustment") == []
    assert await said(books_url, "select 1 from price") == []
    done = await correct(database, CHEAP)
    assert (tried.parts, tried.without_price, tried.booked) == (done.parts, done.without_price, 0)


async def test_the_report_of_before_is_the_same_for_ever(database: Database, books_url: str) -> None:
    await book_seven(database)
    moment = await now_of(books_url)
    for by in (Dimension.TARGET, Dimension.KEY, Dimension.DAY):
        now = await report(database, by=by)
        then = await report(database, by=by, as_of=moment)
        assert (then.lines, then.total, then.by_hosting) == (now.lines, now.total, now.by_hosting)
    old = await report(database, as_of=moment)
    await correct(database, CHEAP)
    await PostgresLedgerBook(database).book(rows([receipt(50)]))
    assert (await report(database)).total != old.total
    assert await report(database, as_of=moment) == old
    assert (await report(database, as_of=moment - timedelta(days=1))).lines == ()


async def test_a_price_that_changed_on_a_day_is_that_of_each_attempts_own_day(database: Database) -> None:
    midnight = datetime(2026, 11, 24, tzinfo=UTC)
    for number, at in ((1, midnight - timedelta(microseconds=1)), (2, midnight)):
        at_us = round(at.timestamp() * 1e6)
        attempt = an_attempt(attempt_id=f"{request_id(number)}/1", started_us=at_us)
        await PostgresLedgerBook(database).book(rows([replace(receipt(number, at_us=at_us), attempts=(attempt,))]))
    result = await correct_prices(
        books_of(database),
        NOVEMBER,
        new_price=lambda _, day: CHEAP if day >= date(2026, 11, 24) else CARD,
        reason="from the 24th on",
        by="finance",
    )
    assert (result.attempts, result.touched) == (2, 1)
    days = {line.group: line.sums.charge for line in (await report(database, by=Dimension.DAY)).lines}
    assert days == {("2026-11-23",): charge(usage=USAGE, price=CARD), ("2026-11-24",): charge(usage=USAGE, price=CHEAP)}


@pytest.mark.parametrize(("prompt", "expected"), [(1000, 2 * 1000 + 10), (1001, 4 * 1001 + 20)])
async def test_tiers_of_the_new_card_apply_on_both_sides_of_their_threshold(
    database: Database, prompt: int, expected: int
) -> None:
    attempt = an_attempt(attempt_id=f"{request_id(1)}/1", usage=Usage(prompt=prompt, output=1))
    await PostgresLedgerBook(database).book(rows([replace(receipt(1), attempts=(attempt,))]))
    await correct(database, TIERED)
    assert (await report(database)).total.charge == expected


async def test_of_two_corrections_at_once_one_counts_and_the_next_run_finishes(database: Database) -> None:
    await book_seven(database)
    dear = RateCard.of(prompt=Decimal(7), cached_prompt=Decimal(1), output=Decimal(9))
    results = await asyncio.gather(correct(database, CHEAP), correct(database, dear), correct(database, CHEAP))
    assert all(result.booked <= result.touched for result in results)
    await correct(database, dear)
    sums = {line.group: line.sums.charge for line in (await report(database)).lines}
    assert sums[("home",)] == 6 * charge(usage=USAGE, price=dear)
    assert (await correct(database, dear)).touched == 0


class CutOff:
    """A book whose reader is stopped after its first batch."""

    def __init__(self, database: Database) -> None:
        self._book = PostgresRatedBook(database, batch_most=2)

    async def rated(self, query: RatedQuery) -> AsyncIterator[Sequence[Rated]]:
        async for batch in self._book.rated(query):
            yield batch
            raise ConnectionError("cut off")


async def test_a_run_that_is_cut_off_is_finished_by_the_next(database: Database) -> None:
    await book_seven(database)
    with pytest.raises(ConnectionError):
        await correct_prices(
            replace(books_of(database), rated=CutOff(database)),
            NOVEMBER,
            new_price=lambda *_: CHEAP,
            reason="",
            by="finance",
        )
    assert (await correct(database, CHEAP)).touched == 3
    assert (await correct(database, CHEAP)).touched == 0


async def test_a_closed_month_stays_as_it_was_and_the_difference_counts_for_the_open_one(
    database: Database, books_url: str
) -> None:
    october = Month(year=2026, number=10)
    at_us = a_receipt_of_october(1).at_us
    old = a_receipt_of_october(1, charge=396_200)
    old = replace(old, attempts=(replace(old.attempts[0], started_us=at_us),))
    await PostgresLedgerBook(database).book(rows([old]))
    months = PostgresMonthBook(database)
    closed = await close_month(months, october, by="finance")
    query = RatedQuery(since=october.begin, until=october.end)
    result = await correct(database, CHEAP, query=query)
    assert (result.touched, result.booked) == (1, 1)
    (checked,) = await verify_months(months, october)
    assert (checked.faults, checked.closed.digest) == ((), closed.closed.digest)
    (row,) = await said(books_url, "select at, booked_for, amount from adjustment")
    assert (row["at"].month, row["amount"]) == (10, charge(usage=USAGE, price=CHEAP) - 396_200)
    assert row["booked_for"] >= october.end
    assert (await correct(database, CHEAP, query=query)).touched == 0
    assert await all_invariants_hold(database)


async def test_a_credit_is_not_undone_by_a_price(database: Database) -> None:
    await PostgresLedgerBook(database).book(rows([receipt(1)]))
    await PostgresAdjustmentBook(database).adjust([a_correction(1, amount=-1_000)])
    await correct(database, CHEAP)
    assert (await report(database)).total.charge == charge(usage=USAGE, price=CHEAP) - 1_000
