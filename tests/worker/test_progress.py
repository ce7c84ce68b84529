"""app.worker.progress: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import io

from rich.console import Console

from app.worker.messages import Loading
from app.worker.progress import LoadingProgress


def shown(*, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100)
    progress = LoadingProgress(console, model="small")
    progress.saw(Loading(stage="before", done=0.0))
    with progress.shown():
        progress.saw(Loading(stage="compiling", done=0.5))
    progress.saw(Loading(stage="after", done=1.0))
    return out.getvalue()


def test_elsewhere_each_stage_is_one_line() -> None:
    assert shown(terminal=False) == "small: compiling (50%)\n"


def test_on_a_terminal_there_is_a_bar() -> None:
    assert "small: compiling" in shown(terminal=True)
    assert "\x1b[" in shown(terminal=True)
    assert "after" not in shown(terminal=True)
