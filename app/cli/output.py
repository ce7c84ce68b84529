"""How commands write: tables for people, one JSON document for programs; notes go to stderr, never between the two."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

#: The option of every command whose result a program may want.
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON for programs.")]
#: A pipe has no width; tables written into one are as wide as they need to be.
_PIPE_WIDTH: Final = 400


def console() -> Console:
    """Standard output for people. Nothing in a text is taken for markup or an emoji."""
    return Console(
        width=None if sys.stdout.isatty() else _PIPE_WIDTH, markup=False, emoji=False, highlight=False, soft_wrap=False
    )


def write_json(value: object) -> None:
    """One JSON document, on one line."""
    print(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def note(text: str) -> None:
    """Something worth knowing that is not the result."""
    print(text, file=sys.stderr)


def write_table(
    *,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    words: int,
    total: Sequence[str] | None = None,
    title: str = "",
    out: Console | None = None,
) -> None:
    """A table whose first `words` columns are text and the others figures; on standard output, unless `out` is given.

    One that is wider than the terminal is turned: a row a figure, a column a line.
    """
    out = out or console()
    lines = [*rows, *([total] if total is not None else [])]
    upright = _upright(head, lines, words=words, total=total is not None, title=title)
    natural = Measurement.get(out, out.options.update(max_width=_PIPE_WIDTH), upright).maximum
    out.print(upright if natural <= out.width or not lines else _turned(head, lines, words=words, title=title))


def _upright(head: Sequence[str], lines: Sequence[Sequence[str]], *, words: int, total: bool, title: str) -> Table:
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(head):
        table.add_column(name, justify="left" if place < words else "right", no_wrap=place >= words)
    for place, line in enumerate(lines):
        last = total and place == len(lines) - 1
        table.add_row(*(Text(cell) for cell in line), style="bold" if last else None)
    return table


def _turned(head: Sequence[str], lines: Sequence[Sequence[str]], *, words: int, title: str) -> Table:
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for line in lines:
        table.add_column(" / ".join(cell for cell in line[:words] if cell), justify="right")
    for place in range(words, len(head)):
        table.add_row(head[place], *(Text(line[place]) for line in lines))
    return table
