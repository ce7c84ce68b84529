"""How commands write: tables for people, one JSON document for programs; notes go to stderr, never between the two."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Annotated, Final

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: The option of every command whose result a program may want.
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON for programs.")]
#: A pipe has no width; tables written into one are as wide as they need to be.
_PIPE_WIDTH: Final = 10_000
_BETWEEN: Final = "  "
#: A table is turned only while a row has few words: rows that are told in many, such as requests, stay rows.
_NAMED_BY_AT_MOST: Final = 3

_Line = Sequence[str]


def console() -> Console:
    """Standard output for people. Nothing in a text is taken for markup or an emoji."""
    return Console(
        width=None if sys.stdout.isatty() else _PIPE_WIDTH, markup=False, emoji=False, highlight=False, soft_wrap=False
    )


def write_json(value: object) -> None:
    """One JSON document, on one line."""
    print(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def counted(number: int, word: str) -> str:
    """A number with its word: 1 error, 2 errors."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


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

    No cell is ever cut or broken. A table that is wider than the terminal is turned, a row a figure and a column a
    line, where that fits; else each row takes as many lines as it needs, and the head with it. No line ends in blanks.
    That there are no rows is a note.
    """
    out = out or console()
    lines = [[_flat(cell) for cell in line] for line in (*rows, *([total] if total is not None else []))]
    if not lines:
        note("there are none")
    if title:
        _print(out, title, style="italic")
    table = [head, *lines]
    bold = {0} if total is None else {0, len(lines)}
    turned = list(zip(*table, strict=True))
    if not lines or _width(table, range(len(head))) <= out.width:
        _print_table(out, table, words=words, folds=[range(len(head))], bold=bold)
    elif words <= _NAMED_BY_AT_MOST and words < len(head) and _width(turned, range(len(table))) <= out.width:
        _print_table(out, turned, words=1, folds=[range(len(table))], bold=set(range(words)))
    else:
        _print_table(out, table, words=words, folds=list(_folds(table, width=out.width)), bold=bold)


def write_labelled(lines: Table, *, out: Console | None = None) -> None:
    """Labelled lines: folded to the width of a terminal, without blanks at their ends elsewhere."""
    out = out or console()
    if out.is_terminal:
        out.print(lines)
        return
    with out.capture() as captured:
        out.print(lines)
    for line in captured.get().splitlines():
        out.print(Text(line.rstrip()), soft_wrap=True)


def _print_table(
    out: Console, table: Sequence[_Line], *, words: int, folds: Sequence[range], bold: Collection[int]
) -> None:
    """Each line of the table, the columns of a fold on a line of the terminal; what follows the first is set in."""
    widths = _widths(table)
    for place, line in enumerate(table):
        for fold in folds:
            cells = (_filled(line[at], widths[at], right=at >= words) for at in fold)
            text = (_BETWEEN if fold.start else "") + _BETWEEN.join(cells)
            _print(out, text, style="bold" if place in bold else "")


def _filled(cell: str, width: int, *, right: bool) -> str:
    blanks = " " * (width - cell_len(cell))
    return blanks + cell if right else cell + blanks


def _print(out: Console, text: str, *, style: str) -> None:
    """One line as it is: a terminal that is still too narrow breaks it, and a copied cell is whole."""
    if line := text.rstrip():
        out.print(Text(line, style=style), soft_wrap=True)


def _folds(lines: Sequence[_Line], *, width: int) -> Iterator[range]:
    """The columns, as few lines as take them in their order."""
    columns = len(lines[0])
    start = 0
    for end in range(1, columns + 1):
        set_in = len(_BETWEEN) if start else 0
        if end - start > 1 and set_in + _width(lines, range(start, end)) > width:
            yield range(start, end - 1)
            start = end - 1
    yield range(start, columns)


def _width(lines: Sequence[_Line], columns: range) -> int:
    widths = _widths(lines)
    return sum(widths[at] for at in columns) + len(_BETWEEN) * (len(columns) - 1)


def _widths(lines: Sequence[_Line]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(*lines, strict=True)]


def _flat(cell: str) -> str:
    """A cell is one line, whatever a stranger's words in it are."""
    return " ".join(cell.splitlines())
