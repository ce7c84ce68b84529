"""Small changes to the text of a condition, each of which somebody could have typed by mistake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from app.documents.condition_terms import Binary, Call, Choice, Field, Junction, Literal, Term, Unary
from app.documents.condition_tokens import Token, tokens
from app.documents.conditions import CelCondition

#: The boundary first, then the opposite.
_FLIPPED = {
    "==": ("!=",),
    "!=": ("==",),
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
    "&&": ("||",),
    "||": ("&&",),
}
_TRUTHS = {"true": "false", "false": "true"}
#: What a text constant ends with, so that it is another one.
_OTHER = "~"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedCondition:
    """A condition with one change. `offset` is where, in characters of the text as written; `change` says what."""

    text: str
    offset: int
    change: str


def changed_conditions(condition: CelCondition) -> Iterator[ChangedCondition]:
    """Every single change, each text once: operators flipped, thresholds shifted by one and doubled, texts replaced,
    questions negated one by one and all together. Names of targets and budgets stay as they are."""
    seen = {condition.source}
    for one in (*_token_changes(condition), *_negated(condition)):
        if one.text not in seen:
            seen.add(one.text)
            yield one


def _token_changes(condition: CelCondition) -> Iterator[ChangedCondition]:
    text = condition.source
    for token in tokens(text):
        if any(place.begins <= token.begins < place.ends for place in condition.places):
            continue
        for other in _others(token):
            yield ChangedCondition(
                text=text[: token.begins] + other + text[token.ends :],
                offset=token.begins,
                change=f"`{token.text}` became `{other}`",
            )


def _others(token: Token) -> Iterator[str]:
    match token.kind:
        case "sign":
            yield from _FLIPPED.get(token.text, ())
        case "name":
            yield from (_TRUTHS[token.text],) if token.text in _TRUTHS else ()
        case "string":
            quotes = 3 if token.text.lstrip("rR")[:3] in ('"""', "'''") else 1
            yield token.text[:-quotes] + _OTHER + token.text[-quotes:]
        case "int":
            number = int(token.text, 0) if token.text[:2].lower() == "0x" else int(token.text)
            yield from (str(number + 1), str(number - 1), str(number * 2))
        case "double":
            exact = Decimal(token.text)
            step = Decimal(1).scaleb(min(int(exact.as_tuple().exponent), -1))
            yield from (_decimal(exact + step), _decimal(exact - step), _decimal(exact * 2))


def _decimal(number: Decimal) -> str:
    text = f"{number:f}"
    return text if "." in text else f"{text}.0"


def _negated(condition: CelCondition) -> Iterator[ChangedCondition]:
    text = condition.source
    for term in _questions(condition.term):
        whole = f"!({text[term.begins : term.ends]})"
        yield ChangedCondition(
            text=text[: term.begins] + whole + text[term.ends :],
            offset=term.begins,
            change=f"`{text[term.begins : term.ends]}` became `{whole}`",
        )
    # On a line of its own, as the text may end with a remark.
    yield ChangedCondition(text=f"!({text}\n)", offset=0, change="the whole condition is negated")


def _questions(term: Term) -> Iterator[Term]:
    """The parts that are asked and have no operator that a flip would negate."""
    match term:
        case Junction(parts=parts):
            for part in parts:
                yield from _questions(part)
        case Choice(test=test, yes=yes, no=no):
            for part in (test, yes, no):
                yield from _questions(part)
        case Unary(operator="!", of=of):
            yield from _questions(of)
        case Binary(operator=operator) if operator == "in":
            yield term
        case Call() | Field():
            yield term
        case Literal() | _:
            return
