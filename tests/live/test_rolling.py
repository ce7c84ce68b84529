from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from app.live.rolling import RollingSum

SPAN_S, STEP_S = 60.0, 5.0


def test_what_was_added_counts_for_the_whole_span_and_is_gone_one_step_after_it() -> None:
    counted = RollingSum(span_s=SPAN_S, step_s=STEP_S)
    counted.add(3, at_s=101.0)
    assert counted.total(at_s=101.0 + SPAN_S) == 3
    assert counted.total(at_s=101.0 + SPAN_S + STEP_S) == 0


def test_a_correction_never_makes_a_total_negative() -> None:
    counted = RollingSum(span_s=SPAN_S, step_s=STEP_S)
    counted.add(-5, at_s=1.0)
    assert counted.total(at_s=1.0) == 0
    counted.add(7, at_s=1.0)
    assert counted.total(at_s=1.0) == 2


def test_it_says_when_it_will_change_by_itself() -> None:
    counted = RollingSum(span_s=SPAN_S, step_s=STEP_S)
    assert counted.changes_after_s(at_s=0.0) == inf
    counted.add(1, at_s=7.0)
    due_s = counted.changes_after_s(at_s=8.0)
    assert counted.total(at_s=due_s - 0.001) == 1
    assert counted.total(at_s=due_s) == 0


def test_a_clock_that_runs_back_loses_nothing() -> None:
    counted = RollingSum(span_s=SPAN_S, step_s=STEP_S)
    counted.add(1, at_s=100.0)
    counted.add(1, at_s=20.0)
    assert counted.total(at_s=100.0) == 2


@given(st.lists(st.tuples(st.floats(0, 50), st.integers(0, 9)), max_size=60))
def test_no_span_ever_holds_more_than_is_counted_at_its_end(waits: list[tuple[float, int]]) -> None:
    counted, at_s, added = RollingSum(span_s=SPAN_S, step_s=STEP_S), 0.0, []
    for wait_s, amount in waits:
        at_s += wait_s
        counted.add(amount, at_s=at_s)
        added.append((at_s, amount))
        within = sum(each for when_s, each in added if when_s >= at_s - SPAN_S)
        and_a_step = sum(each for when_s, each in added if when_s > at_s - SPAN_S - STEP_S)
        assert within <= counted.total(at_s=at_s) <= and_a_step
