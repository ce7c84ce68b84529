from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from app.domain.ledger.report import (
    FEWEST_FOR_P99,
    SHADOW,
    CostLine,
    CostQuery,
    CostReport,
    Dimension,
    Latency,
    Sums,
    compiled,
)
from app.domain.money import Nanodollars
from app.flows.report_rows import (
    NOT_KNOWN,
    NOWHERE,
    as_plain,
    csv_text,
    hosting_table,
    percentiles,
    table,
    tokens_per_s,
)
from tests.makers import NOON

SUMS = Sums(
    requests=1200,
    attempts=1300,
    complete=1190,
    broken=4,
    refused=6,
    prompt_tokens=1_000_000,
    cached_tokens=250_000,
    output_tokens=50_000,
    estimated_attempts=13,
    charge=Nanodollars(1_234_567_891),
    decode_tokens=48_800,
    decode_s=976.0,
    latency={
        Latency.TTFT: {40: 1000, 50: 200},
        Latency.TPOT: {31: 499},
        Latency.DURATION: {70: 1200},
    },
)
NOTHING = Sums(requests=2, refused=2)


def a_report(*lines: tuple[tuple[str, ...], Sums], by: tuple[Dimension, ...] = (Dimension.TEAM,)) -> CostReport:
    made = tuple(CostLine(group=group, sums=sums) for group, sums in lines)
    charge = Nanodollars(sum(line.sums.charge for line in made))
    query = CostQuery(since=NOON, until=NOON, by=by)
    whole = {"self_hosted": replace(SUMS, charge=charge), "": NOTHING}
    return compiled(query=query, lines=made, by_hosting=whole, ledger_charge=charge)


def test_a_table_has_a_row_for_each_line_and_a_total_of_the_same_width() -> None:
    shown = table(a_report((("research", "home"), SUMS), (("", ""), NOTHING), by=(Dimension.TEAM, Dimension.TARGET)))
    assert shown.head[:2] == ("team", "target")
    assert shown.rows[0][:2] == ("research", "home")
    assert shown.rows[1][:2] == (NOWHERE, NOWHERE)
    assert shown.total[:2] == ("total", "")
    assert {len(row) for row in (shown.head, *shown.rows, shown.total)} == {len(shown.head)}


def test_the_figures_of_a_row_are_what_people_read() -> None:
    shown = table(a_report((("research",), SUMS)))
    row = dict(zip(shown.head, shown.rows[0], strict=True))
    assert row["requests"] == "1,200"
    assert (row["refused"], row["failed"]) == ("6", "4")
    assert row["cached"] == "25.0 %"
    assert row["tokens/s"] == "50.0"
    assert row["estimated"] == "1.0 %"
    assert row["charge USD"] == "1.234567891"
    assert row["TTFT p50 ms"] == "47"
    assert row["TTFT p99 ms"] == "123"


def test_a_p99_of_fewer_than_500_observations_is_not_said() -> None:
    few = {Latency.TTFT: {40: FEWEST_FOR_P99 - 1}}
    enough = {Latency.TTFT: {40: FEWEST_FOR_P99}}
    assert percentiles(Sums(latency=few), Latency.TTFT).p99 is None
    assert percentiles(Sums(latency=few), Latency.TTFT).p50 is not None
    assert percentiles(Sums(latency=enough), Latency.TTFT).p99 is not None
    shown = table(a_report((("research",), replace(SUMS, latency=few))))
    assert dict(zip(shown.head, shown.rows[0], strict=True))["TTFT p99 ms"] == NOT_KNOWN


def test_what_nobody_measured_is_a_dash_and_never_a_zero() -> None:
    shown = table(a_report((("research",), NOTHING)))
    row = dict(zip(shown.head, shown.rows[0], strict=True))
    for name in ("cached", "TTFT p50 ms", "TPOT p50 ms", "duration p95 ms", "tokens/s", "estimated"):
        assert row[name] == NOT_KNOWN
    assert tokens_per_s(NOTHING) is None
    assert row["charge USD"] == "0.00"


def test_without_a_dimension_the_table_is_one_row_of_figures() -> None:
    shown = table(a_report(((), SUMS), by=()))
    assert shown.groups == 0
    assert shown.rows == (shown.total,)


def test_the_hosting_table_sets_self_hosted_against_managed() -> None:
    shown = hosting_table(a_report((("research",), SUMS)))
    assert [row[0] for row in shown.rows] == [NOWHERE, "self-hosted"]
    assert shown.total[0] == "total"


def test_copies_for_shadows_have_rows_of_their_own_after_the_answers() -> None:
    answer, copy = CostLine(group=("a",), sums=NOTHING), CostLine(group=("a",), sums=SUMS, shadow=True)
    query = CostQuery(since=NOON, until=NOON, by=(Dimension.TEAM,))
    split = {"self_hosted": NOTHING, SHADOW: SUMS}
    report = compiled(query=query, lines=(copy, answer), by_hosting=split, ledger_charge=SUMS.charge)
    shown = table(report)
    assert (shown.head[:2], shown.groups) == (("team", "shadow"), 2)
    assert [row[:2] for row in (*shown.rows, shown.total)] == [("a", ""), ("a", "shadow"), ("total", "")]
    assert [row[0] for row in hosting_table(report).rows] == ["self-hosted", "shadow"]
    assert [row["shadow"] for row in csv.DictReader(io.StringIO(csv_text(report)))] == ["", "shadow"]
    plain = json.loads(json.dumps(as_plain(report)))
    assert [line["shadow"] for line in plain["lines"]] == [False, True]


def test_without_a_dimension_copies_still_have_a_row_of_their_own() -> None:
    lines = (CostLine(group=(), sums=NOTHING), CostLine(group=(), sums=SUMS, shadow=True))
    query = CostQuery(since=NOON, until=NOON)
    report = compiled(query=query, lines=lines, by_hosting={SHADOW: SUMS}, ledger_charge=SUMS.charge)
    assert [row[0] for row in (*table(report).rows, table(report).total)] == ["", "shadow", "total"]


def test_csv_is_exact_and_adds_up_without_a_total_line() -> None:
    report = a_report((("a",), SUMS), (('b, "quoted"\r\nline',), replace(SUMS, charge=Nanodollars(1))))
    rows = list(csv.DictReader(io.StringIO(csv_text(report))))
    assert [row["team"] for row in rows] == ["a", 'b, "quoted"\r\nline']
    assert sum(int(row["charge_nanodollars"]) for row in rows) == report.total.charge
    assert rows[0]["charge_usd"] == "1.234567891"
    assert rows[0]["tpot_p99_ms"] == ""


@pytest.mark.parametrize("word", ["=1+1", "+cmd|' /C calc'!A0", "-2", "@SUM(A1)", "\t=1"])
def test_a_spreadsheet_never_takes_a_team_for_a_formula(word: str) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(a_report(((word,), SUMS))))))
    assert rows[0]["team"] == f"'{word}"


def test_an_empty_report_still_has_its_header() -> None:
    query = CostQuery(since=NOON, until=NOON, by=(Dimension.TEAM,))
    report = compiled(query=query, lines=(), by_hosting={}, ledger_charge=Nanodollars(0))
    assert csv_text(report).startswith("team,requests,")
    assert csv_text(report).count("\n") == 1
    assert table(report).rows == ()


def test_programs_read_the_same_figures_as_json() -> None:
    plain = as_plain(a_report((("research",), SUMS)))
    again = json.loads(json.dumps(plain, allow_nan=False))
    assert again["by"] == ["team"]
    (line,) = again["lines"]
    assert line["team"] == "research"
    assert line["charge_nanodollars"] == 1_234_567_891
    assert line["tpot_observations"] == 499
    assert line["tpot_p99_ms"] is None
    assert again["total"]["charge_usd"] == "1.234567891"
    assert set(again["by_hosting"]) == {"", "self_hosted"}
