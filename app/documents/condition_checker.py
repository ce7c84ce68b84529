"""Names and types of a condition, checked before it ever runs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.documents.condition_functions import Function, methods_of, named, standing_alone
from app.documents.condition_kinds import (
    ANY,
    BOOL,
    INT,
    NAMES,
    NUMBERS,
    OF_LITERALS,
    SIGNALS,
    STRING,
    Kind,
    comparable,
    is_list,
    list_of,
)
from app.documents.condition_terms import (
    Binary,
    Call,
    Choice,
    Fault,
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
from app.documents.nearest import mend_for, nearest

_INT_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One place in the condition that reads a field, such as `caller.team`, or `fleet["gpu-a"].waiting` `of` a name."""

    begins: int
    ends: int
    room: str
    field: str
    of: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was found: faults, every place that reads a field, and every pattern given to `matches`."""

    faults: tuple[Fault, ...]
    reads: tuple[Read, ...]
    patterns: tuple[Literal, ...]


def check(term: Term, *, text: str) -> Checked:
    """Check the tree of the condition `text`. Without faults it is of kind true-or-false and reads known fields only.

    What remains possible at run time depends on the request: an index past a list's end, a division by a field that is
    zero, a number past 2⁶³.
    """
    checker = _Checker(text)
    kind = checker.kind_of(term)
    if kind not in (BOOL, ANY):
        message = f"a condition is true or false; this one is a {kind}"
        checker.fault(term.begins, message, mend="compare it with something")
    return Checked(faults=tuple(checker.faults), reads=tuple(checker.reads), patterns=tuple(checker.patterns))


class _Checker:
    def __init__(self, text: str) -> None:
        self.faults: list[Fault] = []
        self.reads: list[Read] = []
        self.patterns: list[Literal] = []
        self._text = text
        self._variables: dict[str, Kind] = {}

    def fault(self, offset: int, message: str, *, mend: str = "") -> Kind:
        """Note a fault; the kind of what is at fault is not known, so that nothing follows from it."""
        self.faults.append(Fault(offset=offset, message=message, mend=mend))
        return ANY

    def kind_of(self, term: Term) -> Kind:  # noqa: C901, PLR0911 - one line a kind of term
        """The kind of a term, after checking it and all that is in it."""
        match term:
            case Literal():
                return self._literal(term)
            case Name():
                return self._name(term)
            case Field():
                return self._field(term)
            case Index():
                return self._index(term)
            case Call():
                return self._call(term)
            case ListOf():
                return self._list(term)
            case Unary():
                return self._unary(term)
            case Binary():
                return self._binary(term)
            case Junction():
                return self._junction(term)
            case Choice():
                return self._choice(term)

    # ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _literal(self, term: Literal) -> Kind:
        if term.kind == "int" and int(term.text, 0 if term.text[:2].lower() == "0x" else 10) > _INT_MOST:
            return self.fault(term.begins, "the number is over 2⁶³ - 1")
        return OF_LITERALS[term.kind]

    def _name(self, term: Name) -> Kind:
        if term.name in self._variables:
            return self._variables[term.name]
        if term.name in NAMES:
            fields = ", ".join(f"{term.name}.{field}" for field in NAMES[term.name])
            return self.fault(term.begins, f'"{term.name}" alone is no value', mend=f"its fields are {fields}")
        if term.name in SIGNALS:
            return self._unnamed(term, next(iter(SIGNALS[term.name])))
        return self._unknown_name(term)

    def _unknown_name(self, term: Name) -> Kind:
        message = f'there is no name "{term.name}"'
        places = [room for room, fields in NAMES.items() if term.name in fields]
        places += [f'{room}["…"]' for room, fields in SIGNALS.items() if term.name in fields]
        if places:
            return self.fault(term.begins, message, mend=f"did you mean {places[0]}.{term.name}?")
        near = nearest(term.name, (*NAMES, *SIGNALS))
        mend = f'did you mean "{near}"?' if near else f"the names are {', '.join((*NAMES, *SIGNALS))}"
        return self.fault(term.begins, message, mend=mend)

    def _field(self, term: Field) -> Kind:
        if self._is_signal(term.of.of if isinstance(term.of, Index) else term.of):
            return self._signal(term)
        if not isinstance(term.of, Name) or term.of.name in self._variables:
            kind = self.kind_of(term.of)
            return kind if kind == ANY else self.fault(term.name_begins, f"a {kind} has no fields")
        room = term.of.name
        if room not in NAMES:
            return self._unknown_name(term.of)
        if term.name not in NAMES[room]:
            mend = mend_for(term.name, NAMES[room], what=f"fields of {room}")
            return self.fault(term.name_begins, f'"{room}" has no field "{term.name}"', mend=mend)
        written = self._text[term.begins : term.ends]
        if not re.fullmatch(rf"{room}\s*\.\s*{term.name}", written):
            return self.fault(term.begins, f"write {room}.{term.name} in one piece")
        self.reads.append(Read(begins=term.begins, ends=term.ends, room=room, field=term.name))
        return NAMES[room][term.name]

    def _is_signal(self, term: Term) -> bool:
        return isinstance(term, Name) and term.name in SIGNALS and term.name not in self._variables

    def _unnamed(self, term: Term, field: str) -> Kind:
        """`fleet` or `budget` without the name of one target or budget."""
        room = self._text[term.begins : term.ends]
        one = f'["…"].{field}' if field in SIGNALS[room] else f'["{field}"].{next(iter(SIGNALS[room]))}'
        return self.fault(term.begins, f'"{room}" alone is no value', mend=f"write {room}{one}")

    def _signal(self, term: Field) -> Kind:
        one = term.of
        if not isinstance(one, Index):
            return self._unnamed(one, term.name)
        room = self._text[one.of.begins : one.of.ends]
        name, fields = plain_text(one.at), SIGNALS[room]
        if name is None:
            mend = f'write {room}["…"].{term.name}, with a name that stands in the policy'
            return self.fault(one.at.begins, f"{room} takes a name in quotes, without escapes", mend=mend)
        if term.name not in fields:
            mend = mend_for(term.name, fields, what=f'fields of {room}["{name}"]')
            return self.fault(term.name_begins, f'"{room}" has no field "{term.name}"', mend=mend)
        written = self._text[term.begins : term.ends]
        literal = self._text[one.at.begins : one.at.ends]
        if not re.fullmatch(rf"{room}\s*\[\s*{re.escape(literal)}\s*\]\s*\.\s*{term.name}", written):
            return self.fault(term.begins, f'write {room}["{name}"].{term.name} in one piece')
        self.reads.append(Read(begins=term.begins, ends=term.ends, room=room, field=term.name, of=name))
        return fields[term.name]

    def _index(self, term: Index) -> Kind:
        if self._is_signal(term.of):
            written = self._text[term.begins : term.ends]
            fields = ", ".join(SIGNALS[self._text[term.of.begins : term.of.ends]])
            return self.fault(term.begins, f"{written} alone is no value", mend=f"its fields are {fields}")
        if isinstance(term.of, Name) and term.of.name in NAMES and term.of.name not in self._variables:
            field = term.at.text.strip("\"'") if isinstance(term.at, Literal) else "…"
            return self.fault(term.begins, "fields are read with a dot", mend=f"write {term.of.name}.{field}")
        kind, at = self.kind_of(term.of), self.kind_of(term.at)
        if kind == ANY:
            return ANY
        if isinstance(term.at, Unary) and at == INT:
            return self.fault(term.at.begins, "an index counts from 0; there is nothing before that")
        if at not in (INT, ANY):
            self.fault(term.at.begins, f"an index is a whole number; this one is a {at}")
        if kind.of is None:
            return self.fault(term.begins, f"only lists have an index; this is a {kind}")
        return kind.of

    def _list(self, term: ListOf) -> Kind:
        kind = ANY
        for item in term.items:
            found = self.kind_of(item)
            if kind == ANY:
                kind = found
            elif found not in (kind, ANY):
                self.fault(item.begins, f"the items of a list are of one kind; this is a {found}, the first a {kind}")
        return list_of(kind)

    # ── operators ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _unary(self, term: Unary) -> Kind:
        kind = self.kind_of(term.of)
        if kind == ANY:
            return kind
        if term.operator == "!":
            return BOOL if kind == BOOL else self.fault(term.begins, f"`!` takes true or false, not a {kind}")
        return kind if kind in NUMBERS else self.fault(term.begins, f"`-` takes a number, not a {kind}")

    def _junction(self, term: Junction) -> Kind:
        for part in term.parts:
            self._truth(part, taker=f"`{term.operator}`")
        return BOOL

    def _choice(self, term: Choice) -> Kind:
        self._truth(term.test, taker="`?`")
        yes, no = self.kind_of(term.yes), self.kind_of(term.no)
        if ANY in (yes, no) or yes == no:
            return no if yes == ANY else yes
        return self.fault(term.no.begins, f"both sides of a choice are of one kind; these are {yes} and {no}")

    def _truth(self, term: Term, *, taker: str) -> None:
        kind = self.kind_of(term)
        if kind not in (BOOL, ANY):
            self.fault(term.begins, f"{taker} takes true or false; this is a {kind}", mend="compare it with something")

    def _binary(self, term: Binary) -> Kind:
        left, right = self.kind_of(term.left), self.kind_of(term.right)
        match term.operator:
            case "==" | "!=":
                return BOOL if comparable(left, right) else self._never_equal(term, left, right)
            case "<" | "<=" | ">" | ">=":
                return self._ordered(term, left, right)
            case "in":
                return self._contained(term, left, right)
        return self._calculated(term, left, right)

    def _never_equal(self, term: Binary, left: Kind, right: Kind) -> Kind:
        mend = ""
        if BOOL in (left, right):
            mend = "a true-or-false stands alone, or with `!` before it"
        elif STRING in (left, right) and {left, right} & NUMBERS:
            mend = "remove the quotes" if _is_quoted(term.left) or _is_quoted(term.right) else "use string(…)"
        elif is_list(right):
            mend = "write `in`"
        self.fault(term.operator_begins, f"a {left} never equals a {right}", mend=mend)
        return BOOL

    def _ordered(self, term: Binary, left: Kind, right: Kind) -> Kind:
        if ANY in (left, right) or (left in NUMBERS and right in NUMBERS) or left == right == STRING:
            return BOOL
        mend = "join comparisons with &&" if isinstance(term.left, Binary) and left == BOOL else ""
        message = f"`{term.operator}` compares two numbers or two texts, not a {left} with a {right}"
        self.fault(term.operator_begins, message, mend=mend)
        return BOOL

    def _contained(self, term: Binary, left: Kind, right: Kind) -> Kind:
        if right == ANY:
            return BOOL
        if right.of is None:
            mend = "use text.contains(…)" if right == STRING else ""
            self.fault(term.operator_begins, f"`in` looks into a list, not into a {right}", mend=mend)
        elif not comparable(left, right.of):
            self.fault(term.operator_begins, f"a {left} is never in a list of {right.of}")
        return BOOL

    def _calculated(self, term: Binary, left: Kind, right: Kind) -> Kind:
        if ANY in (left, right):
            return left if right == ANY else right
        if isinstance(term.right, Literal) and term.operator in "/%" and right in NUMBERS and _is_zero(term.right):
            return self.fault(term.right.begins, "a division by zero")
        if left == right and _may_calculate(term.operator, left):
            return left
        if left in NUMBERS and right in NUMBERS and term.operator != "%":
            mend = "give both decimals, as in 60.0, or wrap one in double(…)"
            return self.fault(term.operator_begins, f"`{term.operator}` takes two numbers of one kind", mend=mend)
        return self.fault(term.operator_begins, f"`{term.operator}` cannot join a {left} and a {right}")

    # ── functions ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _call(self, term: Call) -> Kind:
        if term.name == "has" and term.receiver is None:
            return self.fault(term.begins, "every field is always there", mend='compare instead: caller.team != ""')
        receiver = None if term.receiver is None else self.kind_of(term.receiver)
        if receiver == ANY:
            return ANY
        function = named(term.name, receiver=receiver)
        if function is None:
            return self._unknown_function(term, receiver)
        if function.is_macro and receiver is not None:
            return self._macro(term, function, receiver)
        kinds = [self.kind_of(argument) for argument in term.arguments]
        if len(kinds) != len(function.takes):
            return self.fault(term.name_begins, f"{term.name} takes {len(function.takes)} values, not {len(kinds)}")
        for argument, kind, wanted in zip(term.arguments, kinds, function.takes, strict=True):
            if kind != ANY and kind not in wanted and not (is_list(kind) and function.takes_lists):
                self.fault(argument.begins, f"{term.name} does not take a {kind}", mend=function.hint)
        if term.name == "matches":
            self._pattern(term.arguments[0])
        return function.gives

    def _unknown_function(self, term: Call, receiver: Kind | None) -> Kind:
        if receiver is None:
            known, message = standing_alone(), f'there is no function "{term.name}"'
        else:
            known, message = methods_of(receiver), f'a {receiver} has no function "{term.name}"'
        return self.fault(term.name_begins, message, mend=mend_for(term.name, known, what="functions"))

    def _pattern(self, argument: Term) -> None:
        if isinstance(argument, Literal) and argument.kind == "string":
            self.patterns.append(argument)
        else:
            self.fault(argument.begins, "matches takes its pattern in quotes, so that it can be checked now")

    def _macro(self, term: Call, function: Function, receiver: Kind) -> Kind:
        if len(term.arguments) != 2 or not isinstance(term.arguments[0], Name):
            mend = f'write tags.{term.name}(tag, tag == "…")'
            return self.fault(term.name_begins, f"{term.name} takes a name and an expression", mend=mend)
        variable, body = term.arguments[0], term.arguments[1]
        if variable.name in {*NAMES, *SIGNALS, *self._variables} or "__" in variable.name:
            return self.fault(variable.begins, f'"{variable.name}" is taken; choose another name')
        self._variables[variable.name] = receiver.of or ANY
        kind = self.kind_of(body)
        del self._variables[variable.name]
        if term.name == "map":
            return list_of(kind)
        if kind not in (BOOL, ANY):
            self.fault(body.begins, f"{term.name} asks a question of each item; this is a {kind}")
        return receiver if term.name == "filter" else function.gives


def _may_calculate(operator: str, kind: Kind) -> bool:
    match operator:
        case "+":
            return kind in NUMBERS or kind == STRING or is_list(kind)
        case "%":
            return kind == INT
    return kind in NUMBERS


def _is_quoted(term: Term) -> bool:
    return isinstance(term, Literal) and term.kind == "string"


def _is_zero(term: Literal) -> bool:
    return float(int(term.text, 16) if term.text[:2].lower() == "0x" else float(term.text)) == 0.0
