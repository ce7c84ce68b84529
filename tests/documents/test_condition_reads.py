"""A condition that is given flat names and answers says what it says of the names themselves."""

# ruff: noqa: E501 - tables read by their columns

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.documents.condition_checker import check
from app.documents.condition_parser import parse
from app.documents.condition_reads import Reads, flattened
from app.documents.conditions import CelCondition, compile_condition, preparing
from tests.documents.test_condition_claims import CONDITIONS, Names, some_names


def flat(text: str) -> tuple[str, Reads]:
    term = parse(text)
    checked = check(term, text=text)
    assert checked.faults == ()
    return flattened(text, term, checked.reads)


@pytest.mark.parametrize(
    ("text", "compiled"),
    [
        ("request.n > 1 && request . stream", "request__n > 1 && request__stream"),
        ("caller.team == 'a' || caller.team!=\"a\"", "caller__team__is__x61 || !caller__team__is__x61"),
        ("caller.team in ['b', r'a', '']", "caller__team__is__x__x61__x62"),
        ("caller.team in []", "caller__team__is"),
        ("!('a' in request.tags)", "!(request__tags__holds__61)"),
        ('fleet["gpu-a"].waiting > 3', "fleet__waiting__6770752d61 > 3"),
        ("request.tags.exists(t, t == 'a' && caller.team == 'ä')", "request__tags.exists(t, t == 'a' && caller__team__is__xc3a4)"),
        ("(caller.team) == 'a'", "(caller__team) == 'a'"),
        ("caller.team == ('a')", "caller__team == ('a')"),
        ("caller.team == // why\n'a'", "caller__team == // why\n'a'"),
        ("caller.team == 'a\\n'", "caller__team == 'a\\n'"),
        ("caller.team in ['a', caller.key]", "caller__team in ['a', caller__key]"),
        ("caller.team == caller.key && caller.team < 'a'", "caller__team == caller__key && caller__team < 'a'"),
        ("'a' == caller.team", "'a' == caller__team"),
        ("caller.team == 'a' == request.stream", "caller__team__is__x61 == request__stream"),
        ("(request.n > 1 ? caller.team == 'a' : [caller.key][0] == 'b') && -request.n < 0", "(request__n > 1 ? caller__team__is__x61 : [caller__key][0] == 'b') && -request__n < 0"),
    ],
)  # fmt: skip
def test_what_is_compiled(text: str, compiled: str) -> None:
    assert flat(text)[0] == compiled


def test_values_are_those_that_are_there() -> None:
    _, reads = flat("caller.team in ['a', 'b'] && 'x' in caller.tags && request.n > 1 && fleet['g'].waiting > 1")
    assert reads
    values = reads.values({"caller": {"team": "b", "tags": ["x"]}, "request": {"n": 2}, "fleet": {"g": {"waiting": 3}}})
    assert sorted(map(str, values.values())) == ["2", "3", "True", "True"]
    assert reads.signals_are_known(values)
    fewer = reads.values({"caller": {"tags": []}, "fleet": {"g": {}}})
    assert list(fewer.values()) == [False]
    assert not reads.signals_are_known(fewer)
    assert reads.values({}) == {}
    assert not Reads()
    assert (reads | Reads()) == reads


def by_the_library(text: str, names: Names) -> bool:
    """What CEL's library says of the text as written, with the names as they are."""
    library = sys.modules["cel.cel"]
    try:
        return library.compile(text).execute(library.Context(names)) is True
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
        return False


@settings(max_examples=300, deadline=None)
@given(st.lists(CONDITIONS, min_size=1, max_size=4), some_names())
def test_a_condition_holds_when_the_library_says_so_of_the_text_as_written(texts: list[str], names: Names) -> None:
    compiled = [condition for text in texts if isinstance(condition := compile_condition(text), CelCondition)]
    prepare = preparing(compiled)
    ready = names if prepare is None else prepare(names)
    for condition in compiled:
        expected = by_the_library(condition.source, names)
        assert condition.holds(names) is expected
        assert condition.holds(ready) is expected
