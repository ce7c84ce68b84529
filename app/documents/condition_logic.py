"""Can all of this be true at once? Claims about values, joined by and and or, searched within a bound of effort."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from app.documents.condition_spans import Operator, Span, opposite


@dataclass(frozen=True, slots=True)
class Claim:
    """The value called `of`, one of `domain`, compared with a constant."""

    of: str
    domain: Span
    operator: Operator
    value: Any
    size: int = 1


@dataclass(frozen=True, slots=True)
class All:
    """Every part is true; without parts: true."""

    parts: tuple[Formula, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Some:
    """At least one part is true; without parts: false."""

    parts: tuple[Formula, ...]
    size: int


Formula = Claim | All | Some

TRUE = All((), 0)
FALSE = Some((), 0)


def all_of(parts: Iterable[Formula]) -> Formula:
    """True where all of them are."""
    flat = [one for part in parts for one in (part.parts if isinstance(part, All) else (part,))]
    if FALSE in flat:
        return FALSE
    return flat[0] if len(flat) == 1 else All(tuple(flat), sum(part.size for part in flat))


def some_of(parts: Iterable[Formula]) -> Formula:
    """True where one of them is."""
    flat = [one for part in parts for one in (part.parts if isinstance(part, Some) else (part,))]
    if TRUE in flat:
        return TRUE
    return flat[0] if len(flat) == 1 else Some(tuple(flat), sum(part.size for part in flat))


def denied(formula: Formula) -> Formula:
    """True exactly where the formula is not."""
    match formula:
        case Claim(of=of, domain=domain, operator=operator, value=value):
            return Claim(of, domain, opposite(operator), value)
        case All(parts=parts):
            return some_of(denied(part) for part in parts)
        case Some(parts=parts):
            return all_of(denied(part) for part in parts)


def values_of(formula: Formula) -> Iterator[str]:
    """The names of all values that it speaks of, some of them more than once."""
    if isinstance(formula, Claim):
        yield formula.of
        return
    for part in formula.parts:
        yield from values_of(part)


class Effort:
    """How many claims may still be looked at, in all. When it is spent, nothing is proven any more."""

    __slots__ = ("left",)

    def __init__(self, most: int) -> None:
        self.left = most


_Seen = dict[str, Span]
#: Choices still to be made: the first, and the others.
_Open = tuple[Some, Any] | None


#: What a question costs besides its claims.
_OVERHEAD = 3


def impossible(formulas: Iterable[Formula], *, effort: Effort, most: int = 4_000) -> bool:
    """True when it is proven that no values make all of them true; False when some do, or it took over `most` steps."""
    own = Effort(min(most, effort.left))
    given = own.left
    answer = _proven_impossible(formulas, own)
    effort.left -= given - own.left + _OVERHEAD
    return answer


def _proven_impossible(formulas: Iterable[Formula], effort: Effort) -> bool:
    seen: _Seen = {}
    choices = _taken(seen, formulas, effort)
    if choices is not None:
        choices = _without_alternative(seen, choices, effort)
    if choices is None:
        return True
    states: list[tuple[_Seen, _Open]] = [(seen, _chained(choices, None))]
    while states:
        branches = _searched(*states.pop(), effort)
        if branches is None or effort.left <= 0:
            return False
        states.extend(branches)
    return True


def _searched(seen: _Seen, chain: _Open, effort: Effort) -> list[tuple[_Seen, _Open]] | None:
    """Where to search on from here, the best way last; None when everything is true here."""
    while chain is not None:
        choice, chain = chain
        parts = _possible(seen, choice, effort)
        if parts is None:
            continue
        branches = []
        for part in reversed(parts):
            there = dict(seen)
            choices = _taken(there, (part,), effort)
            if choices is not None:
                branches.append((there, _chained(choices, chain)))
        return branches
    return None


def _without_alternative(seen: _Seen, choices: list[Some], effort: Effort) -> list[Some] | None:
    """Take what is left of choices with one way only, until none is; what stays open, or None for a contradiction."""
    while effort.left > 0:
        still: list[Some] = []
        taken = False
        for choice in choices:
            parts = _possible(seen, choice, effort)
            if parts is None:
                continue
            if len(parts) > 1:
                still.append(choice)
                continue
            more = _taken(seen, parts, effort) if parts else None
            if more is None:
                return None
            still.extend(more)
            taken = True
        choices = still
        if not taken:
            break
    return choices


def _taken(seen: _Seen, formulas: Iterable[Formula], effort: Effort) -> list[Some] | None:
    """Add them to what is seen; the choices among them, or None when they contradict it."""
    choices: list[Some] = []
    rest = [*formulas][::-1]
    while rest:
        one = rest.pop()
        if isinstance(one, Claim):
            effort.left -= 1
            span = seen.get(one.of, one.domain).narrowed(one.operator, one.value)
            if span is None:
                return None
            seen[one.of] = span
        elif isinstance(one, All):
            rest.extend(reversed(one.parts))
        else:
            choices.append(one)
    return choices


def _possible(seen: _Seen, choice: Some, effort: Effort) -> Sequence[Formula] | None:
    """The parts that do not contradict what is seen; None when one of them follows from it."""
    parts: list[Formula] = []
    for part in choice.parts:
        follows: bool | None
        if isinstance(part, Claim):  # As in `_follows`, here for speed: most parts are claims.
            effort.left -= 1
            before = seen.get(part.of, part.domain)
            after = before.narrowed(part.operator, part.value)
            follows = False if after is None else True if after is before else None
        else:
            follows = _follows(seen, part, effort)
        if follows:
            return None
        if follows is None:
            parts.append(part)
    return parts


def _follows(seen: _Seen, formula: Formula, effort: Effort) -> bool | None:
    """True when it follows from what is seen, False when it contradicts it, None when neither is plain."""
    if isinstance(formula, Claim):
        effort.left -= 1
        before = seen.get(formula.of, formula.domain)
        after = before.narrowed(formula.operator, formula.value)
        return False if after is None else True if after is before else None
    end = isinstance(formula, Some)
    answers = {_follows(seen, part, effort) for part in formula.parts}
    if end in answers:
        return end
    return None if None in answers else not end


def _chained(choices: Sequence[Some], chain: _Open) -> _Open:
    for choice in reversed(choices):
        chain = (choice, chain)
    return chain
