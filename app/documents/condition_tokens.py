"""The text of a condition to its words and signs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from app.documents.condition_terms import Fault, Unreadable


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    begins: int

    @property
    def ends(self) -> int:
        return self.begins + len(self.text)


_TOKEN = re.compile(
    r"""
    (?P<space>\s+|//[^\n]*)
  | (?P<bytes>[rR]?[bB][rR]?(?="|'))
  | (?P<string>[rR]?(?:\"{3}(?s:.)*?\"{3}|'{3}(?s:.)*?'{3}))
  | (?P<rawstring>[rR](?:"[^"\r\n]*"|'[^'\r\n]*'))
  | (?P<quoted>"(?:[^"\\\r\n]|\\.)*"|'(?:[^'\\\r\n]|\\.)*')
  | (?P<uint>(?:0[xX][0-9a-fA-F]+|[0-9]+)[uU])
  | (?P<double>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
  | (?P<int>0[xX][0-9a-fA-F]+|[0-9]+)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<sign>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{}])
    """,
    re.VERBOSE,
)

_STRINGS = frozenset({"string", "rawstring", "quoted"})
_FOREIGN_SIGNS = {"=": "==", "&": "&&", "|": "||"}


def tokens(text: str) -> Iterator[Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise Unreadable(_strange_character(text, at))
        kind = found.lastgroup or ""
        if kind == "bytes":
            raise Unreadable(Fault(offset=at, message="byte strings are not known here", mend="remove the b"))
        if kind == "uint":
            mend = f"write {found.group()[:-1]}"
            raise Unreadable(Fault(offset=at, message="unsigned numbers are not known here", mend=mend))
        if kind != "space":
            yield Token("string" if kind in _STRINGS else kind, found.group(), at)
        at = found.end()
    yield Token("end", "", len(text))


def _strange_character(text: str, at: int) -> Fault:
    character = text[at]
    if character in "\"'":
        return Fault(offset=at, message="the quotes opened here are not closed", mend="close them")
    if character in _FOREIGN_SIGNS:
        return Fault(offset=at, message=f"`{character}` is no operator", mend=f"write {_FOREIGN_SIGNS[character]}")
    return Fault(offset=at, message=f"the character {character!r} has no place in a condition")
