"""Do two lists of rules decide alike? Proven by cases, or not at all.

A condition that only compares single fields with constants can change its answer at those constants alone. So a grid
with a value below, at and above each constant (every text and one that nobody names; every subset of the tags asked
for; unknown, for signals) has a point in every region there is: two lists of rules that match alike on the whole grid
match alike on every request. Conditions that calculate, call functions or compare fields with each other are not
looked at, nor grids of more than `MOST_POINTS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations, pairwise, product
from math import ceil, floor

from app.documents.condition_kinds import BOOL, DOUBLE, INT, NAMES, SIGNALS, STRING, Kind, is_list
from app.documents.condition_terms import (
    Binary,
    Choice,
    Field,
    Index,
    Junction,
    ListOf,
    Literal,
    Name,
    Term,
    Unary,
    plain_text,
)
from app.documents.conditions import CelCondition, sample_names
from app.domain.routing.policy import Rule

MOST_POINTS = 8_000
_MOST_TAGS = 5
#: Above it, floating point has no number right beside each whole one.
_MOST_NUMBER = 2**50

Path = tuple[str, ...]
Constant = str | int | float

_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
#: The least and the most that a field can be.
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "prompt_tokens": (0, float("inf")),
    "output_tokens_most": (0, float("inf")),
    "n": (1, float("inf")),
    "deadline_s": (0, float("inf")),
    "hour": (0, 23),
    "minute": (0, 59),
    "weekday": (1, 7),
    "in_flight": (0, float("inf")),
    "waiting": (0, float("inf")),
    "saturation": (0, float("inf")),
    "predicted_ttft_ms": (0, float("inf")),
    "age_s": (0, float("inf")),
}
_WORDS: Mapping[str, tuple[str, ...]] = {
    "endpoint": ("chat", "completions"),
    "circuit": ("closed", "half_open", "open"),
}
#: A signal that nobody knows.
_UNKNOWN = object()


class _Unproven(Exception):
    """The conditions ask something that cannot be divided into cases here."""


def match_alike(before: Sequence[Rule], after: Sequence[Rule]) -> bool:
    """True when it is proven that for every request the first match of both lists has the same name, or neither has
    one. False says nothing."""
    conditions = [rule.when for rule in (*before, *after) if rule.when is not None]
    try:
        constants: dict[Path, set[Constant]] = {}
        for condition in conditions:
            if not isinstance(condition, CelCondition):
                return False
            _collect(condition.term, constants)
        cases = {path: _cases(path, found) for path, found in constants.items()}
    except _Unproven:
        return False
    points = 1
    for values in cases.values():
        points *= len(values)
    if points > MOST_POINTS:
        return False
    return all(_first(before, names) == _first(after, names) for names in _grid(cases, conditions))


def _first(rules: Sequence[Rule], names: Mapping[str, object]) -> str | None:
    return next((rule.name for rule in rules if rule.when is None or rule.when.holds(names)), None)


# ── what a condition compares ────────────────────────────────────────────────────────────────────────────────────────


def _collect(term: Term, constants: dict[Path, set[Constant]]) -> None:  # noqa: C901 - one line a kind of term
    match term:
        case Junction(parts=parts):
            for part in parts:
                _collect(part, constants)
        case Choice(test=test, yes=yes, no=no):
            for part in (test, yes, no):
                _collect(part, constants)
        case Unary(operator="!", of=of):
            _collect(of, constants)
        case Field():
            constants.setdefault(_path(term), set())
        case Binary(operator="in", left=Field() as field, right=ListOf(items=items)):
            constants.setdefault(_path(field), set()).update(_constant(item) for item in items)
        case Binary(operator="in", left=Literal() as literal, right=Field() as field):
            constants.setdefault(_path(field), set()).add(_constant(literal))
        case Binary(operator=operator, left=left, right=right) if operator in _COMPARISONS:
            asked, constant = (left, right) if isinstance(left, Field) else (right, left)
            constants.setdefault(_path(asked), set()).add(_constant(constant))
        case Literal(kind="bool"):
            pass
        case _:
            raise _Unproven


def _path(term: Term) -> Path:
    match term:
        case Field(of=Name(name=room), name=field) if room in NAMES and field in NAMES[room]:
            return room, field
        case Field(of=Index(of=Name(name=room), at=at), name=field) if room in SIGNALS:
            name = plain_text(at)
            if name is not None:
                return room, name, field
    raise _Unproven


def _constant(term: Term) -> Constant:
    match term:
        case Literal(kind="string"):
            text = plain_text(term)
            if text is not None:
                return text
        case Literal(kind="int", text=digits):
            return int(digits, 0) if digits[:2].lower() == "0x" else int(digits)
        case Literal(kind="double", text=digits):
            return float(digits)
        case Literal(kind="bool", text=word):
            return word == "true"
        case Unary(operator="-", of=of):
            number = _constant(of)
            if not isinstance(number, str):
                return -number
    raise _Unproven


# ── the grid ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _cases(path: Path, constants: set[Constant]) -> tuple[object, ...]:
    kind = (SIGNALS if path[0] in SIGNALS else NAMES)[path[0]][path[-1]]
    values = tuple(_values(path[-1], kind, constants))
    return (*values, _UNKNOWN) if path[0] in SIGNALS else values


def _values(field: str, kind: Kind, constants: set[Constant]) -> Iterator[object]:
    texts = sorted(each for each in constants if isinstance(each, str))
    numbers = sorted(float(each) for each in constants if not isinstance(each, str))
    if any(abs(each) > _MOST_NUMBER for each in numbers):
        raise _Unproven
    least, most = _BOUNDS.get(field, (float("-inf"), float("inf")))
    if kind == BOOL:
        yield from (False, True)
    elif kind == INT:
        wholes = sorted({near for each in numbers for near in range(floor(each) - 1, ceil(each) + 2)} or {1})
        yield from (each for each in wholes if least <= each <= most)
    elif kind == DOUBLE:
        between = [(one + other) / 2 for one, other in pairwise(numbers)]
        ends = [numbers[0] - 1, numbers[-1] + 1] if numbers else [1.0]
        yield from (each for each in sorted({*numbers, *between, *ends}) if least <= each <= most)
    elif kind == STRING:
        yield from _WORDS.get(field) or sorted({"", *texts, *(f"{text}\x00" for text in texts)})
    elif is_list(kind) and len(texts) <= _MOST_TAGS:
        yield from map(list, chain.from_iterable(combinations(texts, size) for size in range(len(texts) + 1)))
    else:
        raise _Unproven


def _grid(cases: Mapping[Path, Sequence[object]], conditions: Sequence[object]) -> Iterator[Mapping[str, object]]:
    usual = sample_names()[0]
    signals = {path[:2] for path in cases if path[0] in SIGNALS}
    for point in product(*cases.values()):
        names: dict[str, dict[str, object]] = {room: dict(fields) for room, fields in usual.items() if room in NAMES}
        for room, name in signals:
            names.setdefault(room, {})[name] = {}
        for path, value in zip(cases, point, strict=True):
            if value is _UNKNOWN:
                continue
            place: dict[str, object] = names[path[0]]
            if path[0] in SIGNALS:
                place = place[path[1]]  # type: ignore[assignment]
            place[path[-1]] = value
        yield names
