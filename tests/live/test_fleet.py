from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from app.domain.circuit import FAILURES_TO_OPEN, REST_S
from app.domain.errors import FaultKind, TargetFailure
from app.domain.pricing.self_host import MeasuredRates
from app.domain.target import Circuit, Machine
from app.live.fleet import Fleet
from tests.makers import CARD, a_policy, a_target

MEASURED = MeasuredRates(
    target="home",
    prefill_tokens_per_s=Decimal(1000),
    decode_tokens_per_s=Decimal(100),
    model="smollm2",
    engine_version="engine 1",
    measured_at_s=1_795_435_200,
    concurrency=8,
)


def _fleet(*, credentials: bool = True) -> Fleet:
    return Fleet(has_credential=lambda reference: credentials)


def _failure(kind: FaultKind) -> TargetFailure:
    return TargetFailure("it failed", kind=kind, target="home")


def test_what_enters_and_leaves_is_counted_exactly() -> None:
    fleet = _fleet()
    fleet.follow(a_policy(a_target("home"), a_target("away")))
    for _ in range(3):
        fleet.entered("home", at_s=0)
    fleet.left("home", at_s=0, answered=True)
    assert fleet.in_flight() == {"home": 2, "away": 0}


def test_a_view_does_not_change_after_it_was_taken() -> None:
    fleet = _fleet()
    fleet.follow(a_policy())
    before = fleet.view(at_s=0)
    fleet.entered("home", at_s=0)
    assert before["home"].in_flight == 0
    assert fleet.view(at_s=0)["home"].in_flight == 1


def test_failures_in_a_row_open_the_circuit_and_an_answer_closes_it() -> None:
    fleet = _fleet()
    fleet.follow(a_policy())
    for _ in range(FAILURES_TO_OPEN):
        fleet.entered("home", at_s=1)
        fleet.left("home", at_s=1, answered=False, failure=_failure(FaultKind.REFUSED_CONNECTION))
    assert fleet.view(at_s=1)["home"].circuit is Circuit.OPEN
    assert fleet.view(at_s=1 + REST_S)["home"].circuit is Circuit.HALF_OPEN
    fleet.entered("home", at_s=1 + REST_S)
    assert fleet.view(at_s=1 + REST_S)["home"].circuit is Circuit.OPEN
    fleet.left("home", at_s=2 + REST_S, answered=True)
    assert fleet.view(at_s=2 + REST_S)["home"].circuit is Circuit.CLOSED


def test_what_a_request_did_wrong_itself_says_nothing_of_the_target() -> None:
    fleet = _fleet()
    fleet.follow(a_policy())
    for _ in range(2 * FAILURES_TO_OPEN):
        fleet.entered("home", at_s=1)
        fleet.left("home", at_s=1, answered=False, failure=_failure(FaultKind.BAD_REQUEST))
    assert fleet.view(at_s=1)["home"].circuit is Circuit.CLOSED


def test_an_absent_credential_is_seen() -> None:
    fleet = _fleet(credentials=False)
    fleet.follow(a_policy(a_target("home"), a_target("away", credential="env:KEY")))
    seen = fleet.view(at_s=0)
    assert seen["home"].credential_present
    assert not seen["away"].credential_present


def test_a_measurement_gives_a_self_hosted_target_its_price() -> None:
    target = a_target(rate_card=None, machine=Machine(type="box", count=2))
    policy = replace(a_policy(target), machine_usd_per_hour={"box": Decimal("1.80")})
    fleet = _fleet()
    fleet.follow(policy)
    assert fleet.view(at_s=0)["home"].rate_card is None
    fleet.measured([MEASURED], policy=policy)
    card = fleet.view(at_s=0)["home"].rate_card
    assert card is not None
    assert card.output == Decimal(10)
    assert "engine 1" in card.origin
    assert "2026-11-23" in card.origin


def test_a_measurement_of_another_model_prices_nothing() -> None:
    target = a_target(rate_card=None, machine=Machine(type="box"))
    policy = replace(a_policy(target), machine_usd_per_hour={"box": Decimal(1)})
    fleet = _fleet()
    fleet.follow(policy)
    fleet.measured([replace(MEASURED, model="something else")], policy=policy)
    assert fleet.view(at_s=0)["home"].rate_card is None


def test_a_price_in_the_policy_wins_over_a_measurement() -> None:
    target = a_target(machine=Machine(type="box"))
    policy = replace(a_policy(target), machine_usd_per_hour={"box": Decimal(1)})
    fleet = _fleet()
    fleet.measured([MEASURED], policy=policy)
    assert fleet.view(at_s=0)["home"].rate_card == CARD


def test_a_target_that_left_the_policy_is_dropped_once_nothing_is_in_flight_there() -> None:
    fleet = _fleet()
    both, one = a_policy(a_target("home"), a_target("away")), a_policy(a_target("home"))
    fleet.follow(both)
    fleet.entered("away", at_s=0)
    fleet.follow(one)
    fleet.left("away", at_s=0, answered=True)
    fleet.follow(one)
    assert set(fleet.in_flight()) == {"home"}
