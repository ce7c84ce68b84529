"""What is proven impossible is so, and what takes too long is not claimed."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from app.documents.condition_logic import (
    FALSE,
    TRUE,
    Claim,
    Effort,
    Formula,
    Some,
    all_of,
    denied,
    impossible,
    some_of,
    values_of,
)
from app.documents.condition_spans import Span

_SMALL = Span(is_whole=True, low=0, high=2)


def claim(of: str, operator: str, value: int) -> Claim:
    return Claim(of, _SMALL, operator, frozenset({value}) if operator in ("in", "out") else value)


def is_impossible(*formulas: Formula) -> bool:
    return impossible(formulas, effort=Effort(100_000))


def test_true_and_false_vanish_in_what_they_decide() -> None:
    a = claim("a", ">", 0)
    assert all_of((TRUE, a)) == a
    assert all_of((a, FALSE)) == FALSE
    assert some_of((FALSE, a)) == a
    assert some_of((a, TRUE)) == TRUE
    assert is_impossible(FALSE)
    assert not is_impossible(TRUE)
    assert not is_impossible()


def test_a_contradiction_is_found_through_alternatives() -> None:
    a, b = claim("a", ">", 0), claim("b", ">", 0)
    assert is_impossible(a, denied(a))
    assert is_impossible(some_of((a, b)), denied(a), denied(b))
    assert is_impossible(some_of((a, b)), some_of((a, denied(b))), denied(a))
    assert not is_impossible(some_of((a, b)), some_of((denied(a), denied(b))))
    assert sorted(values_of(some_of((a, all_of((a, b)))))) == ["a", "a", "b"]


def test_what_takes_over_the_effort_is_not_claimed() -> None:
    pigeons = [some_of(claim(f"p{n}", "in", hole) for hole in range(2)) for n in range(9)]
    apart: list[Formula] = [
        some_of((claim(f"p{n}", "out", hole), claim(f"p{m}", "out", hole)))
        for n in range(9)
        for m in range(n)
        for hole in range(2)
    ]
    effort = Effort(50)
    assert not impossible((*pigeons, *apart), effort=effort)
    assert effort.left <= 0
    assert impossible((*pigeons, *apart), effort=Effort(1_000_000), most=1_000_000)
    left = Effort(1_000)
    assert not impossible((*pigeons, *apart), effort=left, most=20)
    assert left.left > 500, "one question takes about its own share only"


_CLAIMS = st.builds(
    claim, st.sampled_from("abc"), st.sampled_from(["<", "<=", ">", ">=", "in", "out"]), st.integers(0, 2)
)
_FORMULAS: st.SearchStrategy[Formula] = st.recursive(
    _CLAIMS,
    lambda inner: (
        st.lists(inner, max_size=3).map(all_of) | st.lists(inner, max_size=3).map(some_of) | inner.map(denied)
    ),
    max_leaves=12,
)


def is_true(formula: Formula, values: dict[str, int]) -> bool:
    if isinstance(formula, Claim):
        narrowed = Span(only=frozenset({values[formula.of]})).narrowed(formula.operator, formula.value)
        return narrowed is not None
    answers = [is_true(part, values) for part in formula.parts]
    return any(answers) if isinstance(formula, Some) else all(answers)


@settings(max_examples=300, deadline=None)
@given(st.lists(_FORMULAS, max_size=4))
def test_impossible_is_what_no_values_make_true_and_nothing_else(formulas: list[Formula]) -> None:
    every = [dict(zip("abc", values, strict=True)) for values in product(range(3), repeat=3)]
    some_do = any(all(is_true(formula, values) for formula in formulas) for values in every)
    assert is_impossible(*formulas) is not some_do
    for formula in formulas:
        assert all(is_true(denied(formula), values) is not is_true(formula, values) for values in every)
