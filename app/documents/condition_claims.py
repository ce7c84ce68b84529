"""A checked condition as claims about values: when it is true, and when it is false.

Not the opposite of one another: what cannot be answered (a signal that is not known, an index past the end) is neither.
Whether a value can be read is a claim of its own, so that `a || !a` is always true of a field of the request and not of
a signal. What is not understood here (a call, two fields compared) is a value of its own that may be true or false.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.documents.condition_kinds import BOOL, DOUBLE, INT, NAMES, SIGNALS, STRING, Kind
from app.documents.condition_logic import FALSE, TRUE, Claim, Formula, all_of, denied, some_of
from app.documents.condition_spans import Span
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
from app.domain.routing.facts import Endpoint
from app.domain.target import Circuit

#: Claims in one part of a condition; a larger part is taken as a whole, not understood.
_MOST_CLAIMS = 400
#: Whole numbers above are not exact as numbers with decimals.
_EXACT_BELOW = 2**53

_TRUTH = Span(only=frozenset({False, True}))
_TEXT = Span(low="")
_WHOLE = Span(is_whole=True)
_COUNT = Span(is_whole=True, low=0)
_AMOUNT = Span(low=0.0)
#: What is known of fields beyond their kind.
_DOMAINS: Mapping[tuple[str, str], Span] = {
    ("request", "endpoint"): Span(only=frozenset(endpoint.value for endpoint in Endpoint)),
    ("request", "prompt_tokens"): _COUNT,
    ("request", "output_tokens_most"): _COUNT,
    ("request", "n"): Span(is_whole=True, low=1),
    ("time", "hour"): Span(is_whole=True, low=0, high=23),
    ("time", "minute"): Span(is_whole=True, low=0, high=59),
    ("time", "weekday"): Span(is_whole=True, low=1, high=7),
    ("fleet", "in_flight"): _COUNT,
    ("fleet", "waiting"): _COUNT,
    ("fleet", "saturation"): _AMOUNT,
    ("fleet", "predicted_ttft_ms"): _AMOUNT,
    ("fleet", "age_s"): _AMOUNT,
    ("fleet", "circuit"): Span(only=frozenset(circuit.value for circuit in Circuit)),
    ("budget", "used"): _AMOUNT,
    ("budget", "days_left"): Span(is_whole=True, low=1, high=31),
}
_OF_KINDS = {BOOL: _TRUTH, INT: _WHOLE, STRING: _TEXT}
_CALCULATES = frozenset("+-*/%")
_SWAPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Where a condition is true and where it is false."""

    true: Formula
    false: Formula

    @classmethod
    def of(cls, claim: Formula, *, known: Formula = TRUE) -> Ways:
        """True where the claim is, false where it is not; neither where the value is not `known`."""
        return cls(true=all_of((known, claim)), false=all_of((known, denied(claim))))

    def turned(self) -> Ways:
        """Those of its opposite."""
        return Ways(true=self.false, false=self.true)


def ways_of(term: Term, *, model: str) -> Ways:
    """The ways of a condition without faults, as a rule of `model`."""
    ways = _ways(term, model)
    return ways if ways.true.size + ways.false.size <= _MOST_CLAIMS else _as_a_whole(term)


def domain_of(term: Term, *, model: str) -> Span | None:
    """Which values a term that is no constant may have; None when nothing is known of them."""
    match term:
        case Field(name=name):
            room = _room(term)
            if room == "request" and name == "model":
                return Span(only=frozenset({model}))
            return _DOMAINS.get((room, name), Span() if _kind(term) == DOUBLE else _of_kind(term))
        case Call(name="size"):
            return _COUNT
    return _of_kind(term)


def _of_kind(term: Term) -> Span | None:
    kind = _kind(term)
    return None if kind is None else _OF_KINDS.get(kind)


def _ways(term: Term, model: str) -> Ways:  # noqa: PLR0911 - one line a kind of term
    match term:
        case Literal(kind="bool", text=text):
            return Ways(true=TRUE, false=FALSE) if text == "true" else Ways(true=FALSE, false=TRUE)
        case Unary(operator="!", of=of):
            return ways_of(of, model=model).turned()
        case Junction(operator=operator, parts=parts):
            ways = [ways_of(part, model=model) for part in parts]
            both, either = (all_of, some_of) if operator == "&&" else (some_of, all_of)
            return Ways(true=both(one.true for one in ways), false=either(one.false for one in ways))
        case Choice(test=test, yes=yes, no=no):
            asked, one, other = (ways_of(part, model=model) for part in (test, yes, no))
            return Ways(
                true=some_of((all_of((asked.true, one.true)), all_of((asked.false, other.true)))),
                false=some_of((all_of((asked.true, one.false)), all_of((asked.false, other.false)))),
            )
        case Binary(operator="in"):
            return _contained(term, model)
        case Binary(operator="==" | "!="):
            ways_equal = _equal(term, model)
            return ways_equal if term.operator == "==" else ways_equal.turned()
        case Binary():
            return _compared(term, term.operator, model)
    return _as_a_whole(term)


def _equal(term: Binary, model: str) -> Ways:
    if BOOL not in (_kind(term.left), _kind(term.right)):
        return _compared(term, "==", model)
    one, other = ways_of(term.left, model=model), ways_of(term.right, model=model)
    return Ways(
        true=some_of((all_of((one.true, other.true)), all_of((one.false, other.false)))),
        false=some_of((all_of((one.true, other.false)), all_of((one.false, other.true)))),
    )


def _compared(term: Binary, operator: str, model: str) -> Ways:
    """`==`, `<`, `<=`, `>`, `>=` of numbers or texts."""
    constant, subject = _constant(term.right), term.left
    if constant is None:
        constant, subject, operator = _constant(term.left), term.right, _SWAPPED[operator]
    domain = None if constant is None else domain_of(subject, model=model)
    if domain is None or _constant(subject) is not None:
        return _as_a_whole(term, operator if operator == "==" else "")
    if operator == "==":
        return _claimed(subject, domain, "in", frozenset({constant}))
    return _claimed(subject, domain, operator, constant)


def _contained(term: Binary, model: str) -> Ways:
    if isinstance(term.right, ListOf):
        constants = [_constant(item) for item in term.right.items]
        domain = domain_of(term.left, model=model)
        if domain is not None and None not in constants and _kind(term.left) != BOOL:
            return _claimed(term.left, domain, "in", frozenset(constants))
    return _as_a_whole(term)


def _claimed(subject: Term, domain: Span, operator: str, value: Any) -> Ways:
    return Ways.of(Claim(written(subject), domain, operator, value), known=_known(subject))


def _as_a_whole(term: Term, operator: str = "") -> Ways:
    """A question whose answer is not understood, but is the same wherever it is asked."""
    asked = written(term)
    if operator and isinstance(term, Binary):
        asked = f"{written(term.left)} {operator} {written(term.right)}"
    return Ways.of(Claim(asked, _TRUTH, "in", frozenset({True})), known=_known(term))


def _known(term: Term) -> Formula:
    """That the term can be answered."""
    return Claim(f"is known: {written(term)}", _TRUTH, "in", frozenset({True})) if _may_fail(term) else TRUE


def _may_fail(term: Term) -> bool:  # noqa: PLR0911 - one line a kind of term
    """A request may make it unanswerable: by a signal that is not known, an index past the end, a sum past 2⁶³."""
    match term:
        case Literal() | Name():
            return False
        case Field():
            return _room(term) in SIGNALS
        case Index():
            return True
        case Unary(operator=operator, of=of):
            return operator == "-" or _may_fail(of)
        case Binary(operator=operator, left=left, right=right):
            return operator in _CALCULATES or _may_fail(left) or _may_fail(right)
        case Call(name=name, receiver=receiver, arguments=arguments):
            return name == "int" or any(map(_may_fail, arguments if receiver is None else (receiver, *arguments)))
        case ListOf(items=parts) | Junction(parts=parts):
            return any(map(_may_fail, parts))
        case Choice(test=test, yes=yes, no=no):
            return any(map(_may_fail, (test, yes, no)))


def _constant(term: Term) -> Any:
    """The value of a number or text that is a constant; None for all else, and for numbers that are not exact."""
    if isinstance(term, Unary) and term.operator == "-" and isinstance(term.of, Literal):
        value = _constant(term.of)
        return -value if isinstance(value, int | float) else None
    if not isinstance(term, Literal) or term.kind == "bool":
        return None
    if term.kind == "string":
        return plain_text(term)
    is_hex = term.text[:2].lower() == "0x"
    number = float(term.text) if term.kind == "double" else int(term.text, 16 if is_hex else 10)
    return number if abs(number) < _EXACT_BELOW else None


def _kind(term: Term) -> Kind | None:  # noqa: PLR0911 - one line a kind of term
    """The kind of a checked term; None when that takes more than a look."""
    match term:
        case Field(name=name):
            return {**NAMES, **SIGNALS}.get(_room(term), {}).get(name)
        case Literal(kind=kind):
            return {"bool": BOOL, "int": INT, "double": DOUBLE, "string": STRING}[kind]
        case Unary(operator=operator, of=of):
            return BOOL if operator == "!" else _kind(of)
        case Binary(operator=operator, left=left):
            return _kind(left) if operator in _CALCULATES else BOOL
        case Junction():
            return BOOL
        case Call(name="string"):
            return STRING
        case Call(name="size" | "int"):
            return INT
        case Call(name="contains" | "startsWith" | "endsWith" | "matches" | "exists" | "all" | "exists_one"):
            return BOOL
    return None


def _room(term: Field) -> str:
    of = term.of.of if isinstance(term.of, Index) else term.of
    return of.name if isinstance(of, Name) else ""


def written(term: Term) -> str:  # noqa: C901, PLR0911 - one line a kind of term
    """The term in one spelling, whatever its spaces and parentheses: the same spelling, the same value."""
    match term:
        case Literal(text=text):
            plain = plain_text(term)
            return text if plain is None else repr(plain)
        case Name(name=name):
            return name
        case Field(of=of, name=name):
            return f"{written(of)}.{name}"
        case Index(of=of, at=at):
            return f"{written(of)}[{written(at)}]"
        case Call(name=name, receiver=receiver, arguments=arguments):
            before = "" if receiver is None else f"{written(receiver)}."
            return f"{before}{name}({', '.join(map(written, arguments))})"
        case ListOf(items=items):
            return f"[{', '.join(map(written, items))}]"
        case Unary(operator=operator, of=of):
            return f"{operator}({written(of)})"
        case Binary(left=left, operator=operator, right=right):
            return f"({written(left)} {operator} {written(right)})"
        case Junction(operator=operator, parts=parts):
            return f"({f' {operator} '.join(map(written, parts))})"
        case Choice(test=test, yes=yes, no=no):
            return f"({written(test)} ? {written(yes)} : {written(no)})"
