"""The tree of a condition is that of CEL's grammar."""

from __future__ import annotations

import pytest

from app.documents.condition_checker import Read, check
from app.documents.condition_functions import methods_of, named, standing_alone
from app.documents.condition_kinds import STRING, list_of
from app.documents.condition_parser import parse
from app.documents.condition_terms import Binary, Call, Choice, Field, Junction, Literal, Name, Term, Unary
from app.documents.condition_tokens import tokens


def shown(term: Term) -> str:  # noqa: PLR0911 - one line a kind of term
    """The tree with every parenthesis written."""
    match term:
        case Literal(text=text):
            return text
        case Name(name=name):
            return name
        case Field(of=of, name=name):
            return f"{shown(of)}.{name}"
        case Unary(operator=operator, of=of):
            return f"({operator}{shown(of)})"
        case Binary(left=left, operator=operator, right=right):
            return f"({shown(left)} {operator} {shown(right)})"
        case Junction(operator=operator, parts=parts):
            return f"({f' {operator} '.join(shown(part) for part in parts)})"
        case Choice(test=test, yes=yes, no=no):
            return f"({shown(test)} ? {shown(yes)} : {shown(no)})"
        case Call(name=name, receiver=receiver, arguments=arguments):
            before = "" if receiver is None else f"{shown(receiver)}."
            return f"{before}{name}({', '.join(shown(argument) for argument in arguments)})"
    raise AssertionError(term)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a || b && c || d", "(a || (b && c) || d)"),
        ("a && b && c", "(a && b && c)"),
        ("a + b * c - d", "((a + (b * c)) - d)"),
        ("a - b - c", "((a - b) - c)"),
        ("a * b % c / d", "(((a * b) % c) / d)"),
        ("a < b + 1 && c in d", "((a < (b + 1)) && (c in d))"),
        ("a < b == c", "((a < b) == c)"),
        ("!a.b && -c.d < 1", "((!a.b) && ((-c.d) < 1))"),
        ("!!a", "(!(!a))"),
        ("a ? b : c ? d : e", "(a ? b : (c ? d : e))"),
        ("a ? b || c : d", "(a ? (b || c) : d)"),
        ("(a || b) && c", "((a || b) && c)"),
        ("a.b.c(d, e + 1).f", "a.b.c(d, (e + 1)).f"),
        ("a//b\n.c", "a.c"),
        ("1.5e3 - .5", "(1.5e3 - .5)"),
        ("'''a'b''' + r\"\\\"", "('''a'b''' + r\"\\\")"),
    ],
)
def test_operators_bind_as_in_cel(text: str, tree: str) -> None:
    assert shown(parse(text)) == tree


def test_words_remember_their_offsets_and_end() -> None:
    found = list(tokens("a  >=\n'x'"))
    assert [(token.kind, token.text, token.begins) for token in found] == [
        ("name", "a", 0),
        ("sign", ">=", 3),
        ("string", "'x'", 6),
        ("end", "", 9),
    ]


def test_every_place_that_reads_a_field_is_found() -> None:
    text = "caller.team == 'caller.team' || request . n > 1"
    checked = check(parse(text), text=text)
    assert checked.faults == ()
    assert checked.reads == (
        Read(begins=0, ends=11, room="caller", field="team"),
        Read(begins=32, ends=43, room="request", field="n"),
    )


def test_functions_belong_to_kinds() -> None:
    assert named("startsWith", receiver=STRING) is not None
    assert named("startsWith", receiver=list_of(STRING)) is None
    assert named("startsWith", receiver=None) is None
    assert set(methods_of(list_of(STRING))) == {"exists", "all", "exists_one", "filter", "map", "size"}
    assert set(standing_alone()) == {"size", "int", "double", "string"}
