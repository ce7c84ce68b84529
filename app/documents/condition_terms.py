"""What a condition is made of. Offsets count characters of its text from 0; `ends` is past the last one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with a condition, at a character of it (from 0)."""

    offset: int
    message: str
    mend: str = ""


class Unreadable(Exception):
    """The condition cannot be read past its `fault`."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal:
    """A constant. `kind` is bool, int, double or string; `text` is as written."""

    begins: int
    ends: int
    kind: str
    text: str
    depth: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A name that stands alone: a room of names such as `request`, or a variable of a macro."""

    begins: int
    ends: int
    name: str
    depth: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """`of.name`."""

    begins: int
    ends: int
    of: Term
    name: str
    name_begins: int
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """`of[at]`."""

    begins: int
    ends: int
    of: Term
    at: Term
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """`name(arguments)` or `receiver.name(arguments)`."""

    begins: int
    ends: int
    name: str
    name_begins: int
    receiver: Term | None
    arguments: tuple[Term, ...]
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOf:
    """`[items]`."""

    begins: int
    ends: int
    items: tuple[Term, ...]
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unary:
    """`!of` or `-of`."""

    begins: int
    ends: int
    operator: str
    of: Term
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """`left operator right`, for everything but `&&` and `||`."""

    begins: int
    ends: int
    operator: str
    operator_begins: int
    left: Term
    right: Term
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Junction:
    """`parts` joined by `&&`, or all by `||`."""

    begins: int
    ends: int
    operator: str
    parts: tuple[Term, ...]
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """`test ? yes : no`."""

    begins: int
    ends: int
    test: Term
    yes: Term
    no: Term
    depth: int


Term = Literal | Name | Field | Index | Call | ListOf | Unary | Binary | Junction | Choice


def plain_text(term: Term) -> str | None:
    """What a text constant says; None for anything else, and for one with escapes, which only CEL itself reads."""
    if not isinstance(term, Literal) or term.kind != "string":
        return None
    is_raw = term.text[0] in "rR"
    quoted = term.text[1:] if is_raw else term.text
    if "\\" in quoted and not is_raw:
        return None
    quotes = 3 if quoted[:3] in ('"""', "'''") and len(quoted) >= 6 else 1
    return quoted[quotes:-quotes]
