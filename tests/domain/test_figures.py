"""`app.domain.figures`: numbers as people read them."""

from __future__ import annotations

from decimal import Decimal
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.figures import in_digits


@pytest.mark.parametrize(
    ("number", "significant", "said"),
    [
        (6e-05, 4, "0.00006"),
        (12345.67, 4, "12346"),
        (1e16, 4, "10000000000000000"),
        (3.3333333, 4, "3.333"),
        (600.0, None, "600"),
        (0.1, None, "0.1"),
        (-0.0, 4, "0"),
        (0, None, "0"),
        (Decimal("6E-8"), None, "0.00000006"),
        (Decimal("1E+7"), 2, "10000000"),
        (inf, 4, "inf"),
    ],
)
def test_a_number_is_digits(number: float | Decimal, significant: int | None, said: str) -> None:
    assert in_digits(number, significant=significant) == said


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_number_has_an_exponent_and_with_all_its_digits_it_is_the_same(number: float) -> None:
    said = in_digits(number, significant=None)
    assert set(said) <= set("-.0123456789")
    assert float(said) == number
    assert set(in_digits(number, significant=3)) <= set("-.0123456789")
