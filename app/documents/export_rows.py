"""A seller's export as flat rows, whatever it is written in: CSV, JSON, a JSON document a line, pages of buckets."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from typing import Any, Final

from app.domain.errors import BadRequest

#: More lines than this are more than a month of most; they would take a gigabyte of memory.
LINES_MOST: Final = 1_000_000
_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9]+")
#: Said of a row by the page that it is on: Anthropic's pages begin their buckets with this member.
ANTHROPIC: Final = "anthropic"
OPENAI: Final = "openai"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Column → text, numbers as they are written. Names are small letters and underscores; nested ones are joined."""

    #: `file:line`, or `file: data[2].results[0]`.
    place: str
    line: int
    values: Mapping[str, str]
    #: The seller, where the form of the file gives it away.
    provider: str = ""


def read_rows(name: str, lines: Iterable[str], *, most: int = LINES_MOST) -> Iterator[Row]:
    """The rows of one file, in its order. Raises BadRequest, with file and line, for what cannot be read."""
    text = iter(lines)
    begin: list[str] = []
    for line in text:
        begin.append(line)
        if line.strip():
            break
    else:
        raise BadRequest(f"{name}: the file is empty: export the period again", param="file")
    everything = chain(begin, text)
    rows = _json_rows(name, everything) if begin[-1].lstrip()[0] in "{[" else _csv_rows(name, everything)
    for count, row in enumerate(rows, 1):
        if count > most:
            raise BadRequest(f"{name}: more than {most:,} lines: export a part of the period", param="file")
        yield row


def _csv_rows(name: str, lines: Iterable[str]) -> Iterator[Row]:
    text = iter(lines)
    first = next(text)
    while not first.strip():
        first = next(text)
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(chain([first], text), delimiter=delimiter, strict=True)
    try:
        head = [_named(cell) for cell in next(reader)]
        if double := sorted({column for column in head if column and head.count(column) > 1}):
            raise BadRequest(f"{name}:1: the column {double[0]!r} stands there twice: keep one of them", param="file")
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(head):
                raise BadRequest(
                    f"{name}:{reader.line_num}: {len(cells)} cells under {len(head)} columns: is the line whole?",
                    param="file",
                )
            values = {column: cell.strip() for column, cell in zip(head, cells, strict=True)}
            yield Row(place=f"{name}:{reader.line_num}", line=reader.line_num, values=values)
    except csv.Error as fault:
        raise BadRequest(f"{name}:{reader.line_num}: no CSV ({fault}): export it again", param="file") from fault


def _json_rows(name: str, lines: Iterable[str]) -> Iterator[Row]:
    """One document, or one a line: whichever the first line is."""
    more = False
    for line, place, document in _documents(name, lines):
        yield from _document_rows(document, line=line, place=place)
        pages = document if isinstance(document, list) else [document]
        more = any(isinstance(page, Mapping) and page.get("has_more") is True for page in pages[-1:])
    if more:
        raise BadRequest(
            f"{name}: its last page says that there are more: fetch them (next_page), one page a line", param="file"
        )


def _documents(name: str, lines: Iterable[str]) -> Iterator[tuple[int, str, Any]]:
    text = iter(lines)
    line, first = next((number, each) for number, each in enumerate(text, 1) if each.strip())
    try:
        document = _decoded(first)
    except ValueError:
        yield 1, f"{name}: ", _whole(name, chain([first], text))
        return
    yield line, f"{name}:{line}: ", document
    for number, each in enumerate(text, line + 1):
        if each.strip():
            try:
                document = _decoded(each)
            except ValueError as fault:
                raise BadRequest(f"{name}:{number}: no JSON ({fault}): one document a line", param="file") from fault
            yield number, f"{name}:{number}: ", document


def _whole(name: str, lines: Iterable[str]) -> Any:
    try:
        return _decoded("".join(lines))
    except json.JSONDecodeError as fault:
        raise BadRequest(f"{name}:{fault.lineno}: no JSON ({fault.msg}): is the file whole?", param="file") from fault
    except ValueError as fault:
        raise BadRequest(f"{name}: no JSON ({fault}): is the file whole?", param="file") from fault


def _decoded(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_no_number)
    except RecursionError as fault:
        raise ValueError("it is nested too deep") from fault


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _document_rows(document: Any, *, line: int, place: str) -> Iterator[Row]:
    if isinstance(document, list):
        for number, each in enumerate(document):
            yield from _document_rows(each, line=line, place=f"{place}[{number}]")
        return
    if not isinstance(document, Mapping):
        raise BadRequest(f"{place.rstrip(': ')}: an object was expected, with columns as its members", param="file")
    data = document.get("data")
    if not isinstance(data, list):
        yield Row(place=place.rstrip(": "), line=line, values=_flat(document))
        return
    for number, bucket in enumerate(data):
        here = f"{place}data[{number}]"
        results = bucket.get("results") if isinstance(bucket, Mapping) else None
        if not isinstance(results, list):
            yield from _document_rows(bucket, line=line, place=here)
            continue
        provider = ANTHROPIC if "starting_at" in bucket else OPENAI
        outer = _flat({key: value for key, value in bucket.items() if key not in ("results", "object")})
        for place_in_bucket, result in enumerate(results):
            if not isinstance(result, Mapping):
                raise BadRequest(f"{here}.results[{place_in_bucket}]: an object was expected", param="file")
            values = {**outer, **_flat(result)}
            yield Row(place=f"{here}.results[{place_in_bucket}]", line=line, values=values, provider=provider)


def _flat(value: Mapping[str, Any], *, before: str = "") -> dict[str, str]:
    """Members of members, their names joined; null and empty ones are left out, lists are no columns."""
    flat: dict[str, str] = {}
    for key, each in value.items():
        name = f"{before}_{_named(key)}" if before else _named(key)
        if isinstance(each, Mapping):
            flat.update(_flat(each, before=name))
        elif each is not None and not isinstance(each, list):
            flat[name] = str(each).lower() if isinstance(each, bool) else str(each).strip()
    return flat


def _named(column: str) -> str:
    return _NOT_IN_NAMES.sub("_", column.strip().lower()).strip("_")
