from __future__ import annotations

from app.domain.circuit import CONDUCT, LAST_RESORT_S
from app.domain.errors import FaultKind, TargetFailure
from app.domain.target import Circuit
from app.live.circuits import IN_SERVICE, Circuits

MONEY = CONDUCT[FaultKind.MONEY_GONE]


def _failure(kind: FaultKind, *, target: str = "mini", retry_after_s: float | None = None) -> TargetFailure:
    return TargetFailure(f"{target}: it failed", kind=kind, target=target, retry_after_s=retry_after_s)


def _circuits(**credentials: str | None) -> Circuits:
    circuits = Circuits()
    circuits.follow(credentials or {"mini": "env:KEY", "maxi": "env:KEY", "home": None})
    return circuits


def test_while_nothing_fails_there_is_nothing_to_look_at() -> None:
    circuits = _circuits()
    assert not circuits
    assert circuits.of("home", at_s=0) == IN_SERVICE


def test_a_pause_that_was_asked_for_is_kept_to_the_second_and_no_last_resort_breaks_it() -> None:
    circuits = _circuits()
    circuits.failed(_failure(FaultKind.RATE_LIMITED, retry_after_s=7), began_s=0, at_s=0, progressed=True)
    rest = circuits.of("mini", at_s=6.9)
    assert (rest.circuit, rest.cause, rest.last_resort) == (Circuit.OPEN, "rate_limited", False)
    assert circuits.of("mini", at_s=7).circuit is Circuit.HALF_OPEN
    assert circuits.of("maxi", at_s=1) == IN_SERVICE


def test_a_pause_that_was_asked_for_is_told_with_what_is_left_of_it() -> None:
    circuits = _circuits()
    circuits.failed(_failure(FaultKind.RATE_LIMITED, retry_after_s=7), began_s=0, at_s=0, progressed=True)
    for _ in range(2):
        circuits.failed(_failure(FaultKind.REFUSED_CONNECTION, target="home"), began_s=0, at_s=0, progressed=True)
    assert circuits.of("home", at_s=1).circuit is Circuit.OPEN
    assert circuits.pauses(at_s=2) == {"mini": 5}
    assert circuits.pauses(at_s=7) == {}, "it may be probed"
    circuits.dispatched("mini", at_s=7)
    assert circuits.pauses(at_s=8) == {"mini": 0}, "its probe is out"
    circuits.failed(_failure(FaultKind.MONEY_GONE, target="maxi"), began_s=8, at_s=8, progressed=True)
    assert circuits.pauses(at_s=8) == {}, "their account rests, and nobody asked for that"


def test_a_retry_after_on_what_is_not_a_pause_is_ignored() -> None:
    circuits = _circuits()
    circuits.failed(_failure(FaultKind.CUT, retry_after_s=7), began_s=0, at_s=0, progressed=True)
    assert circuits.of("mini", at_s=0).circuit is Circuit.CLOSED


def test_an_account_rests_for_all_its_targets_and_a_target_without_one_rests_itself() -> None:
    circuits = _circuits()
    circuits.failed(_failure(FaultKind.AUTH), began_s=0, at_s=0, progressed=True)
    assert set(circuits.troubled()) == {"mini", "maxi"}
    circuits.failed(_failure(FaultKind.AUTH, target="home"), began_s=0, at_s=0, progressed=True)
    assert set(circuits.troubled()) == {"mini", "maxi", "home"}
    circuits.answered("maxi")
    assert set(circuits.troubled()) == {"home"}


def test_an_open_account_outweighs_a_target_in_service_and_the_other_way_round() -> None:
    circuits = _circuits()
    for _ in range(2):
        circuits.failed(_failure(FaultKind.REFUSED_CONNECTION), began_s=0, at_s=0, progressed=True)
    assert circuits.of("mini", at_s=LAST_RESORT_S).last_resort
    circuits.failed(_failure(FaultKind.MONEY_GONE), began_s=0, at_s=0, progressed=True)
    rest = circuits.of("mini", at_s=LAST_RESORT_S)
    assert (rest.cause, rest.last_resort) == ("money_gone", False)
    assert circuits.of("maxi", at_s=MONEY.rest_s).circuit is Circuit.HALF_OPEN


def test_a_target_that_is_gone_is_forgotten_and_so_is_an_account_that_nobody_uses() -> None:
    circuits = _circuits()
    circuits.failed(_failure(FaultKind.MONEY_GONE), began_s=0, at_s=0, progressed=True)
    circuits.failed(_failure(FaultKind.CUT, target="home"), began_s=0, at_s=0, progressed=True)
    circuits.forget("home")
    circuits.follow({"other": "env:OTHER"})
    assert not circuits


def test_a_probe_of_an_account_that_fails_of_something_else_makes_room_for_another() -> None:
    circuits = _circuits()
    circuits.failed(_failure(FaultKind.MONEY_GONE), began_s=0, at_s=0, progressed=True)
    probed_s = MONEY.rest_s
    circuits.dispatched("mini", at_s=probed_s)
    assert circuits.of("maxi", at_s=probed_s).circuit is Circuit.OPEN
    circuits.failed(_failure(FaultKind.SERVER_ERROR), began_s=probed_s, at_s=probed_s, progressed=True)
    assert circuits.of("maxi", at_s=probed_s).circuit is Circuit.HALF_OPEN


def test_who_waited_in_vain_beside_nobody_opens_it_at_once_and_an_answer_that_had_begun_counts_as_one() -> None:
    for kind, state in ((FaultKind.FIRST_TOKEN_TIMEOUT, Circuit.OPEN), (FaultKind.IDLE_TIMEOUT, Circuit.CLOSED)):
        circuits = _circuits()
        circuits.failed(_failure(kind, target="home"), began_s=0, at_s=2, progressed=False)
        assert circuits.of("home", at_s=2).circuit is state
