"""What is shown while things start."""

from __future__ import annotations

import io

from rich.console import Console

from app.cli.up_steps import Steps
from app.system import SystemClock


def test_without_a_terminal_each_step_is_two_plain_lines() -> None:
    out = io.StringIO()
    with Steps(Console(file=out, width=80), clock=SystemClock()) as steps:
        steps.begin("worker", "loading the model")
        steps.note("worker", "half of it")
        steps.begin("Postgres", "starting")
        steps.done("Postgres", "ready")
        steps.done("worker", "ready")
    lines = out.getvalue().splitlines()
    assert lines[:2] == ["worker: loading the model", "Postgres: starting"]
    assert lines[2].startswith("Postgres: ready (")
    assert lines[3].startswith("worker: ready (")


def test_on_a_terminal_what_was_not_finished_says_so() -> None:
    out = io.StringIO()
    try:
        with Steps(Console(file=out, width=80, force_terminal=True), clock=SystemClock()) as steps:
            steps.begin("worker", "loading [the] model")
            raise RuntimeError
    except RuntimeError:
        pass
    assert "not finished" in out.getvalue()
