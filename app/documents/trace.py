"""A request trace as people keep it: who asked when for how many tokens. Text in, arrivals out.

CSV with a head, or a JSON object a line. Columns go by any of their names, in capitals or not, with or without
underscores and blanks: a time (ISO 8601, taken for UTC without an offset, or Unix seconds), prompt tokens, output
tokens; and where there are such, model, team, key, cost_centre, session and tags (in CSV with semicolons between).
Azure's public traces and BurstGPT's are such files. What stands there is read whole or not at all.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from math import inf, isfinite
from typing import Any, Final

from app.domain.caller import Caller
from app.domain.errors import BadRequest
from app.domain.replay.arrival import Arrival
from app.domain.routing.facts import Endpoint, RequestFacts

UNDERSTOOD: Final = (
    "CSV with a head, or JSON objects, one a line, with a time (timestamp), prompt tokens (prompt_tokens, "
    "ContextTokens …) and output tokens (completion_tokens, GeneratedTokens …)"
)
#: What a column may be called, in small letters without anything between them.
_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "time": ("timestamp", "time", "at", "arrivedat", "createdat"),
    "prompt": ("prompttokens", "contexttokens", "inputtokens", "requesttokens", "inputlength"),
    "output": ("completiontokens", "generatedtokens", "outputtokens", "responsetokens", "outputlength"),
    "model": ("model",),
    "team": ("team",),
    "key": ("key", "keyid"),
    "cost_centre": ("costcentre", "costcenter"),
    "session": ("session", "sessionid"),
    "tags": ("tags",),
}
_NEEDED: Final = {
    "time": "the time of each request (timestamp)",
    "prompt": "its prompt tokens (prompt_tokens)",
    "output": "its output tokens (completion_tokens)",
}
_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9]+")
#: Larger numbers are no seconds since 1970 in this century or the next.
_SECONDS_MOST: Final = 1e10
#: No context of today is longer.
_TOKENS_MOST: Final = 100_000_000
#: Mistakes that are told; more are counted.
MISTAKES_TOLD: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What a trace does not say of its requests. `model` given wins over the trace's own."""

    model: str | None = None
    team: str = "nobody"
    key: str = "nobody"
    cost_centre: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What was read, in the order of time. `began_us` is the first request's time, in Unix microseconds."""

    arrivals: Sequence[Arrival]
    began_us: int
    #: Rows without any output token: nothing is known of what they would have got.
    left_out: int = 0
    #: Columns that mean nothing here.
    ignored: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Row:
    place: str
    cells: Mapping[str, Any]


class _Mistakes:
    """What is wrong with a file, line by line: the first are kept in words, the others counted."""

    def __init__(self) -> None:
        self._told: list[str] = []
        self._more = 0

    def add(self, fault: BadRequest) -> None:
        if len(self._told) < MISTAKES_TOLD:
            self._told.append(str(fault))
        else:
            self._more += 1

    def refuse(self) -> None:
        """Raises BadRequest with all of them, where there is one."""
        if self._told:
            more = [f"and {self._more:,} more"] if self._more else []
            raise BadRequest("\n".join((*self._told, *more)), param="trace")


def read_trace(name: str, lines: Iterable[str], *, asking: Asking, most: int | None = None) -> Trace:
    """The first `most` requests of the file `name`; its lines with their ends, without a byte order mark.

    Raises BadRequest, with file and line, for whatever cannot be read or cannot be: a column that is missing, a number
    below zero, requests that are not in the order of time, a request that names no model where `asking` does not. The
    first ten mistakes are told, a line each, and how many more there are; what makes the rest of the file unreadable
    ends it.
    """
    ignored: list[str] = []
    arrivals: list[Arrival] = []
    mistakes, clock = _Mistakes(), _Clock()
    left_out = 0
    try:
        for number, row in enumerate(islice(_rows(name, lines, ignored), most)):
            arrival = _arrival(row, clock, number=number, asking=asking)
            if isinstance(arrival, BadRequest):
                mistakes.add(arrival)
            elif arrival is None:
                left_out += 1
            else:
                arrivals.append(arrival)
    except BadRequest as fault:
        mistakes.add(fault)
    mistakes.refuse()
    if not arrivals:
        told = f"none of its {left_out} requests has an output token" if left_out else "it holds no request"
        raise BadRequest(f"{name}: {told}: there is nothing to replay", param="trace")
    return Trace(arrivals=arrivals, began_us=clock.began_us, left_out=left_out, ignored=tuple(ignored))


def _arrival(row: _Row | BadRequest, clock: _Clock, *, number: int, asking: Asking) -> Arrival | BadRequest | None:
    """The request of a row; or what is wrong with the row; None: it got no output token. Raises BadRequest for what is
    wrong with all rows alike."""
    if isinstance(row, BadRequest):
        return row
    if asking.model is None and "model" not in row.cells:
        if number == 0:
            raise _wrong(row, _NO_MODEL)
        return _wrong(row, _NO_MODEL)
    try:
        at_s = clock.at_s(row)
        prompt, output = _tokens(row, "prompt", least=1), _tokens(row, "output", least=0)
        if output == 0:
            return None
        facts = _facts(row, number=number, prompt_tokens=prompt, asking=asking)
    except BadRequest as fault:
        return fault
    return Arrival(at_s=at_s, facts=facts, prompt_tokens=prompt, output_tokens=output)


class _Clock:
    """The time of the trace, which only goes on."""

    def __init__(self) -> None:
        #: The first request's time, in Unix microseconds.
        self.began_us = 0
        self._previous_us: int | None = None

    def at_s(self, row: _Row) -> float:
        """Seconds since the first request. Raises BadRequest for one that goes back."""
        at_us = _moment_us(row)
        before_us, self._previous_us = self._previous_us, at_us
        if before_us is None:
            self.began_us = at_us
        elif at_us < before_us:
            raise _wrong(row, "its time is before that of the request above it: sort the file by time")
        return (at_us - self.began_us) / 1e6


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _rows(name: str, lines: Iterable[str], ignored: list[str]) -> Iterator[_Row | BadRequest]:
    """Each row, or why it is none. Raises BadRequest where nothing can be read any more."""
    text = enumerate(lines, 1)
    for number, line in text:
        if line.strip():
            rest = chain([(number, line)], text)
            is_json = line.lstrip()[0] in "{["
            return _json_rows(name, rest, ignored) if is_json else _csv_rows(name, rest, ignored)
    raise BadRequest(f"{name}: the file is empty; understood is {UNDERSTOOD}", param="trace")


def _csv_rows(name: str, lines: Iterator[tuple[int, str]], ignored: list[str]) -> Iterator[_Row | BadRequest]:
    begin, first = next(lines)
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(chain([first], (line for _, line in lines)), delimiter=delimiter, strict=True)
    try:
        head = next(reader)
        kinds = _kinds(head, place=f"{name}:{begin}", ignored=ignored)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            place = f"{name}:{begin - 1 + reader.line_num}"
            if len(cells) != len(head):
                yield BadRequest(
                    f"{place}: {len(cells)} cells under {len(head)} columns: is the line whole?", param="trace"
                )
                continue
            yield _Row(place, {kind: cells[at].strip() for kind, at in kinds.items()})
    except csv.Error as fault:
        raise BadRequest(
            f"{name}:{begin - 1 + reader.line_num}: no CSV ({fault}); understood is {UNDERSTOOD}", param="trace"
        ) from fault


def _json_rows(name: str, lines: Iterator[tuple[int, str]], ignored: list[str]) -> Iterator[_Row | BadRequest]:
    known: tuple[str, ...] | None = None
    kinds: Mapping[str, int] = {}
    for number, line in lines:
        if not line.strip():
            continue
        place = f"{name}:{number}"
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as fault:
            yield BadRequest(f"{place}: no JSON ({fault}): write one object a line", param="trace")
            continue
        if not isinstance(found, Mapping):
            yield BadRequest(f"{place}: an object was expected: write one a line", param="trace")
            continue
        names = tuple(found)
        if names != known:
            try:
                known, kinds = names, _kinds(names, place=place, ignored=ignored)
            except BadRequest as fault:
                if known is None:
                    raise
                yield fault
                continue
        values = tuple(found.values())
        yield _Row(place, {kind: values[at] for kind, at in kinds.items()})


def _kinds(names: Sequence[str], *, place: str, ignored: list[str]) -> Mapping[str, int]:
    """Where each kind of cell stands. Of two columns of one kind nobody could say which is meant."""
    kinds: dict[str, int] = {}
    for at, name in enumerate(names):
        plain = _NOT_IN_NAMES.sub("", name.lower())
        kind = next((kind for kind, spelled in _COLUMNS.items() if plain in spelled), None)
        if kind is None:
            if name.strip() and name not in ignored:
                ignored.append(name)
        elif kind in kinds:
            raise BadRequest(
                f"{place}: the columns {names[kinds[kind]]!r} and {name!r} mean the same: keep one", param="trace"
            )
        else:
            kinds[kind] = at
    for kind, meant in _NEEDED.items():
        if kind not in kinds:
            found = ", ".join(each for each in names if each.strip())[:400] or "none"
            raise BadRequest(
                f"{place}: no column has {meant} (columns here: {found}); understood is {UNDERSTOOD}", param="trace"
            )
    return kinds


# ── cells ────────────────────────────────────────────────────────────────────────────────────────────────────────────


_NO_MODEL: Final = "it names no model: say with --model which one is asked for"


def _facts(row: _Row, *, number: int, prompt_tokens: int, asking: Asking) -> RequestFacts:
    model = asking.model or _text(row, "model")
    if not model:
        raise _wrong(row, _NO_MODEL)
    return RequestFacts(
        request_id=f"00000000-0000-7000-8000-{number:012x}",
        endpoint=Endpoint.CHAT,
        model=model,
        stream=True,
        prompt_tokens=prompt_tokens,
        tags=_tags(row),
        session=_text(row, "session"),
        caller=Caller(
            key_id=_text(row, "key") or asking.key,
            team=_text(row, "team") or asking.team,
            cost_centre=_text(row, "cost_centre") or asking.cost_centre,
        ),
    )


def _text(row: _Row, kind: str) -> str:
    found = row.cells.get(kind)
    if found is None:
        return ""
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise _wrong(row, f"{kind} must be text, not {json.dumps(found)[:40]}")
    return str(found).strip()


def _tags(row: _Row) -> tuple[str, ...]:
    found = row.cells.get("tags")
    if isinstance(found, list):
        if not all(isinstance(each, str) for each in found):
            raise _wrong(row, "tags must be a list of texts")
        return tuple(found)
    return tuple(tag for each in _text(row, "tags").split(";") if (tag := each.strip()))


def _tokens(row: _Row, kind: str, *, least: int) -> int:
    found = row.cells[kind]
    text = str(found) if isinstance(found, str) or type(found) is int else ""
    number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else None
    if number is None:
        raise _wrong(row, f"{_shown(found)} is no number of tokens: write digits alone")
    if not least <= number <= _TOKENS_MOST:
        raise _wrong(row, f"{number} {'prompt' if kind == 'prompt' else 'output'} tokens cannot be")
    return number


def _moment_us(row: _Row) -> int:
    found = row.cells["time"]
    if isinstance(found, str) and not re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?", found):
        try:
            moment = datetime.fromisoformat(found)
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
            seconds = moment.timestamp()
        except (ValueError, OverflowError) as fault:
            raise _wrong(row, f"{_shown(found)} is no time: {_A_TIME}") from fault
        return round(seconds * 1e6)
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        raise _wrong(row, f"{_shown(found)} is no time: {_A_TIME}")
    try:
        seconds = float(found)
    except OverflowError:  # an integer of JSON has as many digits as somebody wrote
        seconds = inf
    if not isfinite(seconds) or not 0 <= seconds <= _SECONDS_MOST:
        raise _wrong(row, f"{_shown(found)} is no time in seconds since 1970, nor since the trace began: {_A_TIME}")
    return round(seconds * 1e6)


_A_TIME: Final = "write 2026-11-23T14:05:00.25Z, or seconds (milliseconds divided by 1000)"


def _shown(found: object) -> str:
    return repr(found)[:40] if isinstance(found, str) else json.dumps(found)[:40]


def _wrong(row: _Row, what: str) -> BadRequest:
    return BadRequest(f"{row.place}: {what}", param="trace")
