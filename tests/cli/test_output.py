"""Tables for people, documents for programs."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console

from app.cli.output import note, write_json, write_table

HEAD = ("team", "target", "requests", "charge USD")
ROWS = (("research", "cpu-worker", "12", "0.00012"), ("[bold]sales", "openai", "1", "0.10"))


def test_a_table_is_as_wide_as_it_needs_to_be_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(head=HEAD, rows=ROWS, total=("total", "", "13", "0.10012"), words=2, title="Cost")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "Cost"
    assert lines[1].split() == ["team", "target", "requests", "charge", "USD"]
    assert lines[2].split() == ["research", "cpu-worker", "12", "0.00012"]
    assert lines[-1].split() == ["total", "13", "0.10012"]


def test_names_are_never_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(head=HEAD, rows=ROWS, words=2)
    assert "[bold]sales" in capsys.readouterr().out


def test_a_table_wider_than_the_terminal_is_turned() -> None:
    out = io.StringIO()
    write_table(head=HEAD, rows=ROWS, words=2, out=Console(file=out, width=44))
    lines = out.getvalue().splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["requests", "charge"]
    assert lines[-2].split()[1:] == ["12", "1"]
    assert lines[-1].split()[2:] == ["0.00012", "0.10"]


REQUESTS = ("at", "id", "team", "model", "target", "outcome", "prompt", "charge USD")
IDS = ("019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5b", "019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5c")


def tail_in(width: int) -> list[str]:
    out = io.StringIO()
    rows = [
        ("2026-11-28T09:00:00.000Z", id_, "research", "chat", "cpu-worker", "complete", "900", "0.1") for id_ in IDS
    ]
    write_table(
        head=REQUESTS, rows=rows, words=6, out=Console(file=out, width=width, force_terminal=True, no_color=True)
    )
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()


@pytest.mark.parametrize(("width", "lines_a_row"), [(80, 2), (100, 2), (120, 2), (140, 1)])
def test_rows_stay_rows_with_their_ids_whole_in_any_terminal(width: int, lines_a_row: int) -> None:
    lines = tail_in(width)
    assert len(lines) == lines_a_row * (1 + len(IDS))
    assert all(len(line) <= width for line in lines)
    for request_id, line in zip(IDS, lines[lines_a_row::lines_a_row], strict=True):
        assert request_id in line
    assert " ".join(lines[:lines_a_row]).split() == " ".join(REQUESTS).split()


def test_a_terminal_narrower_than_an_id_still_gets_it_unbroken() -> None:
    assert [line.strip() for line in tail_in(30) if line.strip() in IDS] == list(IDS)


def test_no_line_of_a_pipe_ends_in_blanks_nor_is_a_row_ever_folded(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(head=("name", "what was wrong", "n"), rows=[("a", "", ""), ("b", "x" * 900, "1")], words=3)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    assert lines[-1].split() == ["b", "x" * 900, "1"]


def test_a_cell_of_several_lines_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(head=("name", "said"), rows=[("a", "one\ntwo")], words=2)
    assert capsys.readouterr().out.splitlines()[1].split() == ["a", "one", "two"]


def test_an_empty_table_says_so_beside_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(head=HEAD, rows=[], words=2)
    said = capsys.readouterr()
    assert (said.out.split(), said.err) == (" ".join(HEAD).split(), "there are none\n")


def test_json_is_one_document_on_one_line_and_notes_stay_out_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    write_json({"team": "Übersee", "requests": 3})
    note("by the way")
    said = capsys.readouterr()
    assert said.out.count("\n") == 1
    assert json.loads(said.out) == {"team": "Übersee", "requests": 3}
    assert said.err == "by the way\n"
