"""What a condition is given to read: flat names in place of fields, and answers in place of texts compared.

The library takes 0.1 µs for a true-or-false or a whole number, 0.9 for a text and more for a list. So whether a text is
one of some constants, or a list holds one, is answered here and handed over: equal texts are equal everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.documents.condition_checker import Read
from app.documents.condition_kinds import NAMES, STRING, list_of
from app.documents.condition_terms import (
    Binary,
    Call,
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


@dataclass(frozen=True, slots=True)
class Reads:
    """What conditions read: the name it is compiled with, and where `names_for_conditions` has it."""

    fields: frozenset[tuple[str, str, str]] = frozenset()
    signals: frozenset[tuple[str, str, str, str]] = frozenset()
    #: True where the text of the field is one of these …
    equal: frozenset[tuple[str, str, str, frozenset[str]]] = frozenset()
    #: … and where the list of the field holds this word.
    held: frozenset[tuple[str, str, str, str]] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.fields or self.signals or self.equal or self.held)

    def __or__(self, other: Reads) -> Reads:
        return Reads(
            self.fields | other.fields, self.signals | other.signals, self.equal | other.equal, self.held | other.held
        )

    def values(self, names: Mapping[str, Any]) -> dict[str, object]:
        """What is there, by the names that conditions were compiled with."""
        try:
            values: dict[str, object] = {alias: names[room][field] for alias, room, field in self.fields}
            for alias, room, field, words in self.equal:
                values[alias] = names[room][field] in words
            for alias, room, field, word in self.held:
                values[alias] = word in names[room][field]
        except KeyError:
            return self._there(names).values(names)
        for alias, room, of, field in self.signals:
            known = names.get(room, {}).get(of, {})
            if field in known:
                values[alias] = known[field]
        return values

    def signals_are_known(self, values: Mapping[str, object]) -> bool:
        """True when each of them was there."""
        return all(alias in values for alias, *_ in self.signals)

    def _there(self, names: Mapping[str, Any]) -> Reads:
        """Those of the fields that these names have: names of requests have all."""
        return Reads(
            frozenset(one for one in self.fields if one[2] in names.get(one[1], ())),
            self.signals,
            frozenset(one for one in self.equal if one[2] in names.get(one[1], ())),
            frozenset(one for one in self.held if one[2] in names.get(one[1], ())),
        )


def flattened(text: str, term: Term, places: Iterable[Read]) -> tuple[str, Reads]:
    """The condition as it is compiled, and what that reads. `text` has no fault."""
    reads = Reads()
    written: list[tuple[int, int, str]] = []
    for asked in _parts(term):
        answer = _answer(text, asked) if isinstance(asked, Binary) else None
        if answer is not None:
            alias, read = answer
            reads |= read
            written.append((asked.begins, asked.ends, alias))
    for place in places:
        if not any(begins <= place.begins < ends for begins, ends, _ in written):
            alias, read = _handed_over(place)
            reads |= read
            written.append((place.begins, place.ends, alias))
    for begins, ends, alias in sorted(written, reverse=True):
        text = text[:begins] + alias + text[ends:]
    return text, reads


def _handed_over(place: Read) -> tuple[str, Reads]:
    alias = f"{place.room}__{place.field}"
    if place.room in NAMES:
        return alias, Reads(fields=frozenset({(alias, place.room, place.field)}))
    alias = f"{alias}__{_hex(place.of)}"
    return alias, Reads(signals=frozenset({(alias, place.room, place.of, place.field)}))


def _answer(text: str, asked: Binary) -> tuple[str, Reads] | None:
    """A field compared with constants, in one piece: `caller.team == "a"`, `in ["a", "b"]`, `"a" in request.tags`."""
    around = text[asked.left.ends : asked.operator_begins]
    around += text[asked.operator_begins + len(asked.operator) : asked.right.begins]
    field = asked.right if asked.operator == "in" and isinstance(asked.left, Literal) else asked.left
    if around.strip() or not isinstance(field, Field) or not isinstance(field.of, Name) or field.of.name not in NAMES:
        return None
    room, name = field.of.name, field.name
    kind = NAMES[room].get(name)
    if field is asked.right:
        word = plain_text(asked.left)
        if word is None or kind != list_of(STRING):
            return None
        alias = f"{room}__{name}__holds__{_hex(word)}"
        return alias, Reads(held=frozenset({(alias, room, name, word)}))
    words = _words(asked)
    if words is None or kind != STRING:
        return None
    alias = "__".join((room, name, "is", *(f"x{_hex(word)}" for word in sorted(words))))
    return f"!{alias}" if asked.operator == "!=" else alias, Reads(equal=frozenset({(alias, room, name, words)}))


def _words(asked: Binary) -> frozenset[str] | None:
    if asked.operator in ("==", "!="):
        items: tuple[Term, ...] = (asked.right,)
    elif asked.operator == "in" and isinstance(asked.right, ListOf):
        items = asked.right.items
    else:
        return None
    words = [plain_text(item) for item in items]
    return None if None in words else frozenset(word for word in words if word is not None)


def _hex(word: str) -> str:
    return word.encode("utf-8", "surrogatepass").hex()


def _parts(term: Term) -> Iterator[Term]:
    """It and every term in it."""
    yield term
    for part in _within(term):
        yield from _parts(part)


def _within(term: Term) -> tuple[Term, ...]:  # noqa: PLR0911 - one line a kind of term
    match term:
        case Unary(of=of) | Field(of=of):
            return (of,)
        case Binary(left=left, right=right):
            return (left, right)
        case Junction(parts=parts) | ListOf(items=parts):
            return parts
        case Choice(test=test, yes=yes, no=no):
            return (test, yes, no)
        case Index(of=of, at=at):
            return (of, at)
        case Call(receiver=receiver, arguments=arguments):
            return arguments if receiver is None else (receiver, *arguments)
    return ()
