"""`app.cli.month`: from the first close to a month that was tampered with."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.books import said
from tests.cli.test_commands import book
from tests.command_line import HereAtOnce
from tests.storage.test_month_book import a_receipt_of_october


@pytest.fixture
def desk(
    books_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> HereAtOnce:
    return HereAtOnce(url=books_url, data=tmp_path / "data", monkeypatch=monkeypatch, capsys=capsys)


def test_a_month_is_closed_listed_and_verified_until_somebody_tampers_with_it(desk: HereAtOnce, books_url: str) -> None:
    assert "no month is closed yet" in desk("month", "verify").out
    book(books_url, a_receipt_of_october(1))
    closed = desk("month", "close", "2026-10", "--by", "me", "--json")
    assert closed.status == 0, closed.err
    assert closed.value["month"] == "2026-10"
    assert closed.value["unfinished_processes"] == 0
    (listed,) = desk("month", "list", "--json").value["closed"]
    assert listed["digest"] == closed.value["digest"]
    table = desk("month", "list").out
    assert "2026-10" in table
    assert closed.value["digest"][:16] in table
    assert "2026-10: as it was" in desk("month", "verify").out

    asyncio.run(said(books_url, "alter table receipt_default disable trigger all"))
    asyncio.run(said(books_url, "update receipt_default set team = 'another'"))
    tampered = desk("month", "verify", "2026-10")
    assert tampered.status == 1
    assert "2026-10: DIFFERS" in tampered.out
    assert "receipts were 1 rows" in tampered.err
    assert desk("month", "verify", "--json").value[0]["faults"]


def test_for_people_a_close_shows_its_parts(desk: HereAtOnce, books_url: str) -> None:
    book(books_url, a_receipt_of_october(1))
    shown = desk("month", "close", "2026-10").out
    for part in ("receipts", "attempts", "adjustments", "postings"):
        assert part in shown


def test_a_close_that_stopped_half_way_is_told_of(desk: HereAtOnce, books_url: str) -> None:
    asyncio.run(said(books_url, "insert into month_seal (month, by) values ('2026-10-01', 'me')"))
    assert "`breakeven month close 2026-10` goes on" in desk("month", "list").err
    assert desk("month", "list", "--json").value["sealed_but_not_added_up"] == ["2026-10"]
    assert desk("month", "close", "2026-10").status == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("close", "2099-01"), "is not over"),
        (("close", "November"), "write it as 2026-11"),
        (("verify", "2026-10"), "month close 2026-10"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(desk: HereAtOnce, arguments: tuple[str, ...], told: str) -> None:
    ran = desk("month", *arguments)
    assert (ran.status, ran.out) == (1, "")
    assert told in ran.err
