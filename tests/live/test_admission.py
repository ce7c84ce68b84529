from __future__ import annotations

from app.live.admission import LAG_KNOWN_S, LAG_MOST_S, Admission


def test_so_many_at_once_and_no_more_and_each_that_ends_makes_room() -> None:
    admission = Admission(most=2)
    assert [admission.enter(at_s=0) for _ in range(2)] == [None, None]
    assert "2 are its most" in (admission.enter(at_s=0) or "")
    admission.leave()
    assert admission.enter(at_s=0) is None
    assert (admission.in_flight, admission.shed) == (2, 1)


def test_a_process_that_is_late_takes_nothing_on_until_it_has_caught_up() -> None:
    admission = Admission(most=100)
    admission.lagged(LAG_MOST_S + 0.5, at_s=10)
    assert f"{LAG_MOST_S + 0.5:.1f} s late" in (admission.enter(at_s=10) or "")
    admission.lagged(LAG_MOST_S, at_s=11)
    assert admission.enter(at_s=11) is None


def test_a_lag_that_nobody_has_confirmed_for_a_while_is_over() -> None:
    admission = Admission(most=100)
    admission.lagged(30.0, at_s=10)
    assert admission.enter(at_s=10 + LAG_KNOWN_S - 0.1) is not None
    assert admission.enter(at_s=10 + LAG_KNOWN_S) is None
