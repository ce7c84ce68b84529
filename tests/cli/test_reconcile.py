"""`app.cli.reconcile`: a seller's file, held against real books from the command line."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from app.domain.pricing.charge import charge
from tests.billing import USAGE, csv_of, hosted, line_of, usd
from tests.cli.test_commands import book
from tests.command_line import HereAtOnce
from tests.makers import CARD, NOON
from tests.ports.ledger_book_suite import receipt

COST = charge(usage=USAGE, price=CARD)
GIVEN = [hosted(number, at=NOON + timedelta(days=number % 2)) for number in range(10)]


@pytest.fixture
def desk(
    books_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> HereAtOnce:
    book(books_url, *GIVEN, receipt(20))
    return HereAtOnce(url=books_url, data=tmp_path / "data", monkeypatch=monkeypatch, capsys=capsys)


def written(directory: Path, text: str, *, name: str = "export.csv") -> str:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_clean_export_is_green_and_says_what_was_compared(desk: HereAtOnce, tmp_path: Path) -> None:
    ran = desk("reconcile", "provider", written(tmp_path, csv_of(map(line_of, GIVEN))))
    assert (ran.status, ran.err) == (0, "")
    assert "2026-11-23 00:00 to 2026-11-25 00:00 UTC, request by request" in ran.out
    assert "targets: hosted (openai, 10 attempts)" in ran.out
    (total,) = [line for line in ran.out.splitlines() if line.startswith("total")]
    assert total.split() == ["total", "10", "10", usd(10 * COST), usd(10 * COST), "0.00", "0.00", "green"]


def test_what_is_off_is_shown_by_cause_and_request_and_fails(desk: HereAtOnce, tmp_path: Path) -> None:
    lines = [*map(line_of, GIVEN), line_of(GIVEN[0], request_id="req-nobody")]
    lines[3]["cost"] = usd(COST + 7)
    path = written(tmp_path, csv_of(lines))
    ran = desk("reconcile", "provider", path, "--provider", "openai")
    assert ran.status == 1
    assert "red: the total or a model is off by more than 2 %" in ran.err
    causes = {line.split("  ")[0]: line.split() for line in ran.out.splitlines()}
    assert causes["unlogged call"][-4:] == ["1", usd(COST), "0.00", usd(COST)]
    assert causes["price drift"][-4:] == ["1", usd(7), "0.00", usd(7)]
    assert causes["residual"][-1] == usd(COST + 7)
    assert causes["req-nobody"][-3:] == ["–", usd(COST), usd(COST)]

    plain = desk("reconcile", "provider", path, "--largest", "1", "--json")
    assert plain.status == 1
    value = plain.value
    assert (value["by"], value["band"], value["targets"][0]["name"]) == ("request", "red", "hosted")
    assert value["total"]["residual_nanodollars"] == COST + 7
    assert {each["cause"]: each["nanodollars"] for each in value["causes"]} == {"unlogged_call": COST, "price_drift": 7}
    assert [each["request"] for each in value["largest"]] == ["req-nobody"]
    assert sum(day["residual_nanodollars"] for day in value["days"]) == COST + 7
    assert sum(sum(day["causes"].values()) for day in value["days"]) == COST + 7


def test_a_little_is_only_told_and_days_say_what_they_lack(desk: HereAtOnce, tmp_path: Path) -> None:
    text = "day,model,cost\n" + "".join(
        f"2026-11-{day},gpt-5-mini-2025-08-07,{usd(5 * COST + 5 * COST // 100)}\n" for day in (23, 24)
    )
    ran = desk("reconcile", "provider", written(tmp_path, text))
    assert ran.status == 0
    assert "more than 0.5 %: see the causes" in ran.err
    assert "names no tokens, so that few causes can be told" in ran.err
    assert "unexplained" in ran.out
    assert "day by day" in ran.out


def test_tokens_alone_are_valued_here_and_said_to_be(desk: HereAtOnce, tmp_path: Path) -> None:
    text = (
        '{"day": "2026-11-23", "model": "gpt-5-mini", "input_tokens": 4500, "cached_tokens": 640, "output_tokens": 500}'
    )
    ran = desk("reconcile", "provider", written(tmp_path, text, name="export.json"))
    assert (ran.status, "valued at our prices" in ran.err) == (0, True)


def test_lines_outside_the_period_and_many_projects_are_told(desk: HereAtOnce, tmp_path: Path) -> None:
    ran = desk(
        "reconcile",
        "provider",
        written(tmp_path, csv_of(map(line_of, GIVEN))),
        "--from",
        "2026-11-23",
        "--to",
        "2026-11-23",
    )
    assert (ran.status, "5 lines of the export are outside the period" in ran.err) == (0, True)
    text = f"day,cost,project_id\n2026-11-23,{usd(5 * COST)},one\n2026-11-23,0,two\n"
    ran = desk("reconcile", "provider", written(tmp_path, text))
    assert (ran.status, "has 2 projects, all are compared (one, two)" in ran.err) == (0, True)


@pytest.mark.parametrize(
    ("text", "arguments", "told"),
    [
        ("colour\nred\n", (), "export.csv:2: this is no export that is understood"),
        ("day,cost,currency\n2026-11-23,1,EUR\n", (), "export.csv:2: the money is in 'EUR'"),
        ("day,cost\n2026-11-23,1\n", ("--target", "hostde"), "no attempt at 'hostde'"),
        ("day,cost\n2026-11-23,1\n", ("--target", "home"), "home is self-hosted: no seller sends a bill for it"),
        ("day,cost\n2026-11-23,1\n", ("--target", "hosted", "--provider", "openai"), "not both"),
        ("day,cost\n2026-11-23,1\n", ("--from", "2026-11-23T10"), "whole UTC days"),
        ("day,cost\n2026-11-23,1\n", ("--project", "mine"), "no line of that project"),
        ("day,cost\n2026-10-23,1\n", (), "no attempts at managed targets"),
        ("day,cost\n", (), "no line at all"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    desk: HereAtOnce, tmp_path: Path, text: str, arguments: tuple[str, ...], told: str
) -> None:
    ran = desk("reconcile", "provider", written(tmp_path, text), *arguments)
    assert (ran.status, ran.out) == (1, "")
    assert told in ran.err
    assert ran.err.count("\n") == 1


def test_a_file_that_is_no_text_or_not_there_is_refused_in_one_line(desk: HereAtOnce, tmp_path: Path) -> None:
    (tmp_path / "export.xlsx").write_bytes(b"PK\x03\x04\xff\xfe")
    for name, told in (("export.xlsx", "no UTF-8 text"), ("nowhere.csv", "No such file")):
        ran = desk("reconcile", "provider", str(tmp_path / name))
        assert (ran.status, told in ran.err, ran.err.count("\n")) == (1, True, 1)


def test_a_spreadsheets_mark_before_the_text_is_no_part_of_it(desk: HereAtOnce, tmp_path: Path) -> None:
    path = written(tmp_path, "\ufeff" + csv_of(map(line_of, GIVEN)))
    assert desk("reconcile", "provider", path).status == 0
