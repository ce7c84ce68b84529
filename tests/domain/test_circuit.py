from __future__ import annotations

from app.domain.circuit import CLOSED, FAILURES_TO_OPEN, REST_S, Breaker
from app.domain.target import Circuit


def _opened(*, at_s: float) -> Breaker:
    breaker = CLOSED
    for _ in range(FAILURES_TO_OPEN):
        breaker = breaker.failed(at_s=at_s)
    return breaker


def test_one_failure_too_few_leaves_a_circuit_closed() -> None:
    breaker = CLOSED
    for _ in range(FAILURES_TO_OPEN - 1):
        breaker = breaker.failed(at_s=0)
    assert breaker.state(at_s=0) is Circuit.CLOSED


def test_a_success_in_between_clears_the_record() -> None:
    breaker = CLOSED.failed(at_s=0).failed(at_s=0).succeeded()
    assert breaker.failures == 0


def test_an_open_circuit_lets_one_probe_through_after_its_rest_and_no_second() -> None:
    breaker = _opened(at_s=100)
    assert breaker.state(at_s=100 + REST_S - 0.01) is Circuit.OPEN
    assert breaker.state(at_s=100 + REST_S) is Circuit.HALF_OPEN
    probing = breaker.dispatched(at_s=100 + REST_S)
    assert probing.state(at_s=100 + REST_S) is Circuit.OPEN


def test_a_probe_that_fails_begins_the_rest_anew() -> None:
    probing = _opened(at_s=0).dispatched(at_s=REST_S)
    failed = probing.failed(at_s=REST_S + 1)
    assert failed.state(at_s=REST_S + 1) is Circuit.OPEN
    assert failed.state(at_s=2 * REST_S + 1) is Circuit.HALF_OPEN


def test_a_probe_that_never_comes_back_is_forgotten_after_a_rest() -> None:
    probing = _opened(at_s=0).dispatched(at_s=REST_S)
    assert probing.state(at_s=2 * REST_S) is Circuit.HALF_OPEN
