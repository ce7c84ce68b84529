from __future__ import annotations

from math import inf, isfinite, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.capacity.line import MOST, WEIGHT_MOST, Line

NONSENSE = st.one_of(st.floats(), st.just(nan), st.just(inf), st.just(-1.0))


def _through(*samples: tuple[float, float]) -> Line:
    line = Line()
    for x, y in samples:
        line = line.saw(x=x, y=y)
    return line


@given(slope=st.floats(0.001, 10), intercept=st.floats(0, 10))
def test_samples_of_a_line_give_the_line(slope: float, intercept: float) -> None:
    line = _through(*[(float(x), intercept + slope * x) for x in (1, 9, 4, 30, 2)])
    assert line.slope_and_intercept == pytest.approx((slope, intercept), rel=1e-6, abs=1e-6)


def test_what_was_long_ago_is_forgotten() -> None:
    line = _through(
        *[(x % 10, 5.0 + x % 10) for x in range(1000)], *[(x % 10, 1.0 + 2 * (x % 10)) for x in range(1500)]
    )
    assert line.slope_and_intercept == pytest.approx((2, 1), abs=0.001)


def test_samples_on_one_spot_show_no_slope_and_are_laid_through_zero() -> None:
    line = _through(*[(100.0, 0.5)] * 20)
    assert not line.has_spread
    assert line.slope_and_intercept == pytest.approx((0.005, 0))


def test_a_line_never_falls_and_never_begins_below_zero() -> None:
    assert _through((1, 10), (2, 5), (3, 1)).slope_and_intercept == (0, pytest.approx(5.33, abs=0.1))
    slope, intercept = _through((10, 0), (20, 10), (30, 20)).slope_and_intercept
    assert intercept == 0
    assert slope == pytest.approx(0.5714, abs=0.01)


@given(st.lists(st.tuples(NONSENSE, NONSENSE)))
def test_no_nonsense_makes_nonsense(samples: list[tuple[float, float]]) -> None:
    slope, intercept = _through(*samples).slope_and_intercept
    assert isfinite(slope)
    assert isfinite(intercept)
    assert slope >= 0
    assert intercept >= 0


@pytest.mark.parametrize(("x", "y"), [(nan, 1), (1, nan), (inf, 1), (1, -0.1), (-1, 1), (1, 1e8)])
def test_a_sample_that_cannot_be_changes_nothing(x: float, y: float) -> None:
    line = _through((1, 2), (2, 3))
    assert line.saw(x=x, y=y) is line


def test_every_line_that_samples_make_is_sane() -> None:
    """Of the largest numbers and the least, of a few samples and of many."""
    for xs in ([MOST], [0.0, MOST], [1.0], [0.0], [1.0, 2.0, 3.0], [1e-6, 1.0]):
        for ys in ([MOST], [0.0, MOST], [0.01], [0.0], [MOST, 0.0]):
            line = Line()
            for number in range(3000):
                line = line.saw(x=xs[number % len(xs)], y=ys[number % len(ys)])
                assert line.is_sane, (xs, ys, number, line)
            assert line.weight <= WEIGHT_MOST
            assert line.faded(2.0**-30).is_sane
