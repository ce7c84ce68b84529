from __future__ import annotations

import pytest

from app.domain.circuit import (
    ASKED_REST_MOST_S,
    CLOSED,
    CONDUCT,
    LAST_RESORT_S,
    PROBE_LOST_S,
    REST_MOST_S,
    REST_S,
    STALLED,
    STRIKES_TO_OPEN,
    Breaker,
)
from app.domain.errors import CALLERS_FAULT, FaultKind
from app.domain.target import Circuit

ERROR = FaultKind.SERVER_ERROR
ERRORS_TO_OPEN = STRIKES_TO_OPEN // CONDUCT[ERROR].strikes


def _failed(breaker: Breaker, kind: FaultKind = ERROR, *, at_s: float, asked_s: float | None = None) -> Breaker:
    return breaker.failed(kind, CONDUCT[kind], at_s=at_s, asked_s=asked_s)


def _opened(kind: FaultKind = ERROR, *, at_s: float) -> Breaker:
    breaker = CLOSED
    while breaker.state(at_s=at_s) is Circuit.CLOSED:
        breaker = _failed(breaker, kind, at_s=at_s)
    return breaker


def _probed_in_vain(breaker: Breaker, *, at_s: float) -> Breaker:
    assert breaker.state(at_s=at_s) is Circuit.HALF_OPEN
    return _failed(breaker.dispatched(at_s=at_s), at_s=at_s)


def test_five_server_errors_in_a_row_open_a_circuit_and_four_do_not() -> None:
    assert ERRORS_TO_OPEN == 5
    breaker = CLOSED
    for _ in range(ERRORS_TO_OPEN - 1):
        breaker = _failed(breaker, at_s=0)
    assert breaker.state(at_s=0) is Circuit.CLOSED
    assert _failed(breaker, at_s=0).state(at_s=0) is Circuit.OPEN


@pytest.mark.parametrize(
    ("kind", "failures"),
    [
        (FaultKind.REFUSED_CONNECTION, 2),
        (FaultKind.CONNECT_TIMEOUT, 2),
        (FaultKind.NOT_FOUND, 2),
        (FaultKind.RATE_LIMITED, 2),
        (FaultKind.OVERLOADED, 5),
        (FaultKind.FIRST_TOKEN_TIMEOUT, 5),
        (FaultKind.AUTH, 1),
        (FaultKind.MONEY_GONE, 1),
    ],
)
def test_the_clearer_a_fault_the_fewer_of_them_open_a_circuit(kind: FaultKind, failures: int) -> None:
    breaker = CLOSED
    for _ in range(failures - 1):
        breaker = _failed(breaker, kind, at_s=0)
    assert breaker.state(at_s=0) is Circuit.CLOSED
    assert _failed(breaker, kind, at_s=0).state(at_s=0) is Circuit.OPEN


def test_a_target_that_gives_nobody_anything_is_out_at_once() -> None:
    assert CLOSED.failed(FaultKind.FIRST_TOKEN_TIMEOUT, STALLED, at_s=0).state(at_s=0) is Circuit.OPEN


@pytest.mark.parametrize("kind", sorted(CALLERS_FAULT))
def test_what_a_request_did_wrong_itself_has_no_conduct(kind: FaultKind) -> None:
    assert kind not in CONDUCT


def test_an_open_circuit_lets_one_probe_through_after_its_rest_and_no_second() -> None:
    breaker = _opened(at_s=100)
    assert breaker.state(at_s=100 + REST_S - 0.01) is Circuit.OPEN
    assert breaker.state(at_s=100 + REST_S) is Circuit.HALF_OPEN
    assert breaker.dispatched(at_s=100 + REST_S).state(at_s=100 + REST_S) is Circuit.OPEN


def test_each_probe_that_fails_doubles_the_rest_up_to_its_most() -> None:
    breaker, at_s = _opened(at_s=0), 0.0
    rests = []
    for _ in range(8):
        rests.append(breaker.rest_s)
        at_s += breaker.rest_s
        assert breaker.state(at_s=at_s - 0.01) is Circuit.OPEN
        breaker = _probed_in_vain(breaker, at_s=at_s)
    assert rests == [5, 10, 20, 40, 60, 60, 60, 60]
    assert rests[-1] == REST_MOST_S


def test_what_was_under_way_when_a_circuit_opened_lengthens_nothing() -> None:
    breaker = _opened(at_s=0)
    assert _failed(breaker, at_s=REST_S - 1) == breaker


def test_a_probe_that_never_comes_back_is_lost_after_a_while() -> None:
    probing = _opened(at_s=0).dispatched(at_s=REST_S)
    assert probing.state(at_s=REST_S + PROBE_LOST_S - 0.01) is Circuit.OPEN
    assert probing.state(at_s=REST_S + PROBE_LOST_S) is Circuit.HALF_OPEN


def test_a_probe_whose_caller_left_makes_room_for_another() -> None:
    probing = _opened(at_s=0).dispatched(at_s=REST_S)
    assert probing.let_go().state(at_s=REST_S) is Circuit.HALF_OPEN


def test_a_pause_that_a_target_asks_for_opens_its_circuit_at_once_for_just_as_long() -> None:
    breaker = _failed(CLOSED, FaultKind.RATE_LIMITED, at_s=0, asked_s=7)
    assert breaker.state(at_s=6.99) is Circuit.OPEN
    assert breaker.state(at_s=7) is Circuit.HALF_OPEN


def test_no_target_is_believed_that_it_needs_an_hour() -> None:
    assert _failed(CLOSED, FaultKind.OVERLOADED, at_s=0, asked_s=3600).rest_s == ASKED_REST_MOST_S


def test_as_a_last_resort_a_resting_target_is_asked_once_a_second() -> None:
    breaker = _opened(at_s=0)
    assert not breaker.is_last_resort(at_s=LAST_RESORT_S - 0.01)
    assert breaker.is_last_resort(at_s=LAST_RESORT_S)
    probing = breaker.dispatched(at_s=LAST_RESORT_S)
    assert not probing.is_last_resort(at_s=LAST_RESORT_S)
    again = _failed(probing, at_s=LAST_RESORT_S)
    assert again.rest_s == REST_S
    assert not again.is_last_resort(at_s=LAST_RESORT_S)
    assert again.is_last_resort(at_s=2 * LAST_RESORT_S)


@pytest.mark.parametrize("kind", [FaultKind.MONEY_GONE, FaultKind.AUTH, FaultKind.RATE_LIMITED])
def test_an_account_that_is_used_up_is_never_a_last_resort(kind: FaultKind) -> None:
    breaker = _opened(kind, at_s=0)
    assert not any(breaker.is_last_resort(at_s=at_s) for at_s in range(10_000))


def test_a_pause_that_was_asked_for_is_kept_by_the_last_resort_too() -> None:
    breaker = _failed(CLOSED, FaultKind.OVERLOADED, at_s=0, asked_s=30)
    assert not any(breaker.is_last_resort(at_s=at_s) for at_s in range(30))


def test_a_request_that_began_before_the_probe_is_not_taken_for_it() -> None:
    probing = _opened(at_s=0).dispatched(at_s=REST_S)
    late = probing.failed(ERROR, CONDUCT[ERROR], began_s=REST_S - 3, at_s=REST_S + 1)
    assert late == probing
    probed = probing.failed(ERROR, CONDUCT[ERROR], began_s=REST_S, at_s=REST_S + 1)
    assert probed.rest_s == 2 * REST_S
