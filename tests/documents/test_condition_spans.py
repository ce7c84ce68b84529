"""Which values are left after comparisons."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.documents.condition_spans import Span, opposite

HOURS = Span(is_whole=True, low=0, high=23)
WHOLE = Span(is_whole=True)
WORDS = Span(only=frozenset({"open", "closed"}))


def test_bounds_meet() -> None:
    span = HOURS.narrowed(">", 5)
    assert span == Span(is_whole=True, low=6, high=23)
    assert span is not None
    assert span.narrowed(">=", 6) is span, "all of them are: itself"
    assert span.narrowed("<", 6) is None
    assert HOURS.narrowed(">", 22.5) == Span(is_whole=True, low=23, high=23)
    assert HOURS.narrowed("<", 0.5) == Span(is_whole=True, low=0, high=0)


def test_whole_numbers_have_gaps_and_others_do_not() -> None:
    above = WHOLE.narrowed(">", 4)
    assert above is not None
    assert above.narrowed("<", 5) is None
    dense = Span().narrowed(">", 4.0)
    assert dense is not None
    assert dense.narrowed("<", 4.1) is not None
    assert dense.narrowed("<=", 4.0) is None
    assert WHOLE.narrowed("in", frozenset({1.5})) is None


def test_values_taken_out_at_a_bound_move_it() -> None:
    span = HOURS.narrowed("out", frozenset({0, 1, 23, 7}))
    assert span is not None
    assert (span.low, span.high) == (2, 22)
    assert span.narrowed("in", frozenset({7, 23})) is None
    assert span.narrowed("out", frozenset({23})) is span


def test_words_are_chosen_from() -> None:
    opened = WORDS.narrowed("in", frozenset({"open", "ajar"}))
    assert opened == Span(only=frozenset({"open"}))
    assert opened is not None
    assert opened.narrowed("out", frozenset({"open"})) is None
    assert WORDS.narrowed("in", frozenset({"opened"})) is None
    assert WORDS.narrowed("out", frozenset({"opened"})) is WORDS


_VALUES = st.integers(-3, 6) | st.sampled_from([-1.5, 0.5, 2.0, 4.5])
_COMPARISONS = st.lists(
    st.tuples(st.sampled_from(["<", "<=", ">", ">="]), _VALUES)
    | st.tuples(st.sampled_from(["in", "out"]), st.frozensets(_VALUES, min_size=1, max_size=4)),
    max_size=5,
)


@pytest.mark.parametrize(
    ("domain", "values"),
    [
        (WHOLE, [*range(-4, 8)]),
        (Span(is_whole=True, low=1, high=4), [1, 2, 3, 4]),
        (Span(), [half / 2 for half in range(-8, 16)]),
        (Span(only=frozenset({1, 2, 5})), [1, 2, 5]),
    ],
)
@given(comparisons=_COMPARISONS)
def test_a_value_is_left_exactly_when_every_comparison_is_true_of_it(
    domain: Span, values: list[float], comparisons: list[tuple[str, object]]
) -> None:
    span: Span | None = domain
    for operator, value in comparisons:
        if span is not None:
            before = span
            span = span.narrowed(operator, value)
            denied = before.narrowed(opposite(operator), value)
            assert span is not None or denied is not None, "nothing is left: the opposite is true of all"
    for value in values:
        true = all(_holds(value, operator, other) for operator, other in comparisons)
        assert true == (span is not None and span.has(value))


def _holds(value: float, operator: str, other: object) -> bool:
    if isinstance(other, frozenset):
        return (value in other) == (operator == "in")
    assert isinstance(other, int | float)
    return {"<": value < other, "<=": value <= other, ">": value > other, ">=": value >= other}[operator]
