from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from app.domain.money import Nanodollars, dollars, from_dollars, rounded, rounded_quotient, shown


def test_a_tie_is_rounded_to_even_and_not_up() -> None:
    assert [rounded(Decimal(text)) for text in ("0.5", "1.5", "2.5", "-0.5", "-1.5")] == [0, 2, 2, 0, -2]


@given(st.integers(min_value=-(10**30), max_value=10**30), st.integers(min_value=1, max_value=10**15))
def test_a_quotient_in_whole_numbers_is_rounded_by_the_same_rule(numerator: int, denominator: int) -> None:
    exact = Fraction(numerator, denominator)
    # Python's own rounding of fractions goes to even on ties.
    assert rounded_quotient(numerator, denominator) == round(exact)


@given(st.integers(min_value=-(2**62), max_value=2**62))
def test_dollars_lose_nothing_on_the_way_there_and_back(amount: int) -> None:
    assert from_dollars(dollars(Nanodollars(amount))) == amount


@given(st.integers(min_value=-(2**62), max_value=2**62))
def test_what_is_shown_is_the_exact_amount_without_an_exponent(amount: int) -> None:
    text = shown(Nanodollars(amount))
    assert Decimal(text) == dollars(Nanodollars(amount))
    assert "e" not in text.lower()
    assert len(text.partition(".")[2]) >= 2


def test_one_nanodollar_is_not_shown_as_zero() -> None:
    assert shown(Nanodollars(1)) == "0.000000001"
