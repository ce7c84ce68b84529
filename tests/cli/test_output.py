"""Tables for people, documents for programs."""

from __future__ import annotations

import io
import json

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


def test_json_is_one_document_on_one_line_and_notes_stay_out_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    write_json({"team": "Übersee", "requests": 3})
    note("by the way")
    said = capsys.readouterr()
    assert said.out.count("\n") == 1
    assert json.loads(said.out) == {"team": "Übersee", "requests": 3}
    assert said.err == "by the way\n"
