"""The functions of CEL that conditions may call, as a table."""

from __future__ import annotations

from dataclasses import dataclass

from app.documents.condition_kinds import ANY, BOOL, DOUBLE, INT, NUMBERS, STRING, Kind, is_list


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """What a function takes and gives. A macro takes a variable's name and an expression that uses it."""

    takes: tuple[frozenset[Kind], ...] = ()
    takes_lists: bool = False
    gives: Kind
    is_macro: bool = False
    hint: str = ""


_TEXT = frozenset({STRING})
_ASKS_OF_TEXT = Function(takes=(_TEXT,), gives=BOOL)
_SIZE = Function(gives=INT)
_ASKS_OF_ITEMS = Function(gives=BOOL, is_macro=True)
_MAKES_A_LIST = Function(gives=ANY, is_macro=True)
_LETTERS = "it counts the items of a list"
_UNSURE = "text may not hold a number; compare it as text"


def named(name: str, *, receiver: Kind | None) -> Function | None:
    """The function as called on a value of the kind `receiver`, or alone; None when there is none."""
    if receiver is None:
        return _alone().get(name)
    return _methods(receiver).get(name)


def standing_alone() -> tuple[str, ...]:
    """Names of functions that are called without a receiver."""
    return tuple(_alone())


def methods_of(receiver: Kind) -> tuple[str, ...]:
    """Names of functions that are called on a value of this kind."""
    return tuple(_methods(receiver))


def _alone() -> dict[str, Function]:
    return {
        "size": Function(takes=(frozenset(),), takes_lists=True, gives=INT, hint=_LETTERS),
        "int": Function(takes=(NUMBERS,), gives=INT, hint=_UNSURE),
        "double": Function(takes=(NUMBERS,), gives=DOUBLE, hint=_UNSURE),
        "string": Function(takes=(NUMBERS | {STRING, BOOL},), gives=STRING),
    }


def _methods(receiver: Kind) -> dict[str, Function]:
    if receiver == STRING:
        return dict.fromkeys(("contains", "startsWith", "endsWith", "matches"), _ASKS_OF_TEXT)
    if is_list(receiver):
        asked = dict.fromkeys(("exists", "all", "exists_one"), _ASKS_OF_ITEMS)
        return {**asked, **dict.fromkeys(("filter", "map"), _MAKES_A_LIST), "size": _SIZE}
    return {}
