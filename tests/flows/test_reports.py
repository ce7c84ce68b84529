from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import BadRequest
from app.domain.ledger.period import Period
from app.domain.ledger.receipt import Receipt
from app.domain.ledger.report import BooksDisagree, CostLine, CostQuery, Dimension, Sums
from app.domain.money import Nanodollars
from app.flows import reports
from app.flows.reports import MOST_HOURLY, cost_report, query_of
from app.ports import Books, BooksAway
from app.storage.receipt_json import encode
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.fakes.report_book import MemoryReportBook
from tests.makers import NOON
from tests.random_receipts import receipts

DAY = timedelta(days=1)
PERIOD = Period(since=NOON.replace(hour=0) - 7 * DAY, until=NOON.replace(hour=0) + 7 * DAY)
DAILY = st.lists(st.sampled_from([each for each in Dimension if each is not Dimension.HOUR]), unique=True, max_size=4)


class SetBooks:
    """A report book that says one thing."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def read(self, query: CostQuery) -> Books:
        return self._books


@given(st.lists(receipts(), max_size=5, unique_by=lambda receipt: receipt.request_id), DAILY)
async def test_the_parts_of_every_report_sum_to_the_whole(booked: list[Receipt], by: list[Dimension]) -> None:
    ledger = MemoryLedgerBook()
    await ledger.book([encode(receipt) for receipt in booked])
    query = query_of(period=PERIOD, by=",".join(by))
    report = await cost_report(MemoryReportBook(ledger), query)
    assert report.total.charge == sum(receipt.charge for receipt in booked)
    assert report.total.requests == len(booked)
    assert sum(line.sums.charge for line in report.lines) == report.total.charge
    assert sum(sums.charge for sums in report.by_hosting.values()) == report.total.charge


async def test_books_that_disagree_are_not_shown() -> None:
    line = CostLine(group=(), sums=Sums(charge=Nanodollars(100)))
    books = Books(lines=(line,), by_hosting={"managed": line.sums}, ledger_charge=Nanodollars(99))
    with pytest.raises(BooksDisagree, match="99"):
        await cost_report(SetBooks(books), query_of(period=PERIOD, by=""))


async def test_a_report_while_postgres_is_away_is_away_too() -> None:
    ledger = MemoryLedgerBook()
    ledger.away = True
    with pytest.raises(BooksAway):
        await cost_report(MemoryReportBook(ledger), query_of(period=PERIOD, by="team"))


def test_dimensions_are_read_in_the_order_they_were_asked_for() -> None:
    assert query_of(period=PERIOD, by=" target, cost-centre ").by == (Dimension.TARGET, Dimension.COST_CENTRE)
    assert query_of(period=PERIOD, by="").by == ()


@pytest.mark.parametrize("by", ["user", "team,team", "team;drop table receipt", "1", "request_id", "TEAM'--"])
def test_what_cannot_be_grouped_by_is_refused_with_what_can(by: str) -> None:
    with pytest.raises(BadRequest) as caught:
        query_of(period=PERIOD, by=by)
    assert caught.value.param == "by"


@pytest.mark.parametrize(
    ("by", "period"),
    [
        ("key,hour", PERIOD),
        ("key", replace(PERIOD, since=PERIOD.since + timedelta(hours=1))),
        ("team", replace(PERIOD, since=PERIOD.since + timedelta(minutes=1))),
        ("hour", replace(PERIOD, since=PERIOD.until - MOST_HOURLY - timedelta(hours=1))),
    ],
)
async def test_what_the_books_cannot_answer_is_refused_before_they_are_asked(by: str, period: Period) -> None:
    ledger = MemoryLedgerBook()
    ledger.away = True
    with pytest.raises(BadRequest):
        await cost_report(MemoryReportBook(ledger), query_of(period=period, by=by))


async def test_a_report_of_too_many_lines_is_refused_with_the_cure() -> None:
    line = CostLine(group=("team",), sums=Sums())
    books = Books(lines=(line,) * (reports.MOST_LINES + 1), by_hosting={}, ledger_charge=Nanodollars(0))
    with pytest.raises(BadRequest, match="group by less"):
        await cost_report(SetBooks(books), query_of(period=PERIOD, by="team"))
