from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from app.domain.circuit import CONDUCT, REST_S, STRIKES_TO_OPEN
from app.domain.errors import FaultKind, TargetFailure
from app.domain.metering.meter import Meter
from app.domain.pricing.self_host import MeasuredRates
from app.domain.signals import EngineSignals, SignalName
from app.domain.target import Circuit, Hosting, Machine
from app.domain.usage import Usage
from app.live.fleet import Fleet
from app.live.target_load import IDLE_AFTER_S
from app.live.target_place import TTFT_KNOWN_S, TTFT_WEIGHT
from app.ports.ledger import Compared, TargetSent
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


ERRORS_TO_OPEN = STRIKES_TO_OPEN // CONDUCT[FaultKind.SERVER_ERROR].strikes


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
    for _ in range(ERRORS_TO_OPEN):
        fleet.entered("home", at_s=1)
        fleet.left("home", at_s=1, answered=False, failure=_failure(FaultKind.SERVER_ERROR))
    assert fleet.view(at_s=1)["home"].circuit is Circuit.OPEN
    assert fleet.view(at_s=1)["home"].rests_after == "server_error"
    assert fleet.view(at_s=1 + REST_S)["home"].circuit is Circuit.HALF_OPEN
    fleet.entered("home", at_s=1 + REST_S)
    assert fleet.view(at_s=1 + REST_S)["home"].circuit is Circuit.OPEN
    fleet.left("home", at_s=2 + REST_S, answered=True)
    assert fleet.view(at_s=2 + REST_S)["home"].circuit is Circuit.CLOSED


def test_what_a_request_did_wrong_itself_says_nothing_of_the_target() -> None:
    fleet = _fleet()
    fleet.follow(a_policy())
    for _ in range(2 * ERRORS_TO_OPEN):
        fleet.entered("home", at_s=1)
        fleet.left("home", at_s=1, answered=False, failure=_failure(FaultKind.BAD_REQUEST))
    assert fleet.view(at_s=1)["home"].circuit is Circuit.CLOSED


def test_a_target_that_gave_nobody_anything_while_a_request_waited_is_out_at_once() -> None:
    fleet = _fleet()
    fleet.follow(a_policy())
    _timed_out(fleet, began_s=100, at_s=110)
    assert fleet.view(at_s=110)["home"].circuit is Circuit.OPEN


def test_a_target_that_served_others_meanwhile_is_only_slow() -> None:
    fleet = _fleet()
    fleet.follow(a_policy())
    other = Meter(started_s=90, prompt_estimate=10)
    fleet.entered("home", at_s=90, meter=other)
    other.saw_content(events=1, content_bytes=3, at_s=101)
    _timed_out(fleet, began_s=100, at_s=110)
    assert fleet.view(at_s=110)["home"].circuit is Circuit.CLOSED
    fleet.left("home", at_s=115, answered=True, meter=other)
    _timed_out(fleet, began_s=114, at_s=124)
    assert fleet.view(at_s=124)["home"].circuit is Circuit.CLOSED


def _timed_out(fleet: Fleet, *, began_s: float, at_s: float) -> None:
    meter = Meter(started_s=began_s, prompt_estimate=10)
    fleet.entered("home", at_s=began_s, meter=meter)
    failure = _failure(FaultKind.FIRST_TOKEN_TIMEOUT)
    fleet.left("home", at_s=at_s, answered=False, failure=failure, meter=meter)


@pytest.mark.parametrize(("tokens", "circuit"), [(900, Circuit.CLOSED), (500, Circuit.OPEN)])
def test_an_engine_that_works_for_others_who_see_nothing_yet_is_only_slow(tokens: int, circuit: Circuit) -> None:
    """Answers that are not streamed come all at once: only the engine itself can tell that it works on them."""
    fleet = _fleet()
    fleet.follow(a_policy())
    whole, streamed = Meter(started_s=0, prompt_estimate=0), Meter(started_s=1, prompt_estimate=0)
    fleet.entered("home", at_s=0, meter=whole)
    fleet.entered("home", at_s=1, meter=streamed, streamed=True)
    for at_s, counted in ((2, 500), (3, tokens)):
        numbers = {SignalName.RUNNING: 2.0, SignalName.GENERATION_TOKENS: float(counted)}
        fleet.polled("home", EngineSignals(at_s=at_s, numbers=numbers, missing={}), ours=2)
    failure = _failure(FaultKind.FIRST_TOKEN_TIMEOUT)
    fleet.left("home", at_s=4, answered=False, failure=failure, meter=streamed)
    assert fleet.view(at_s=4)["home"].circuit is circuit


def test_an_account_without_money_rests_at_every_target_that_uses_it_and_is_told_once() -> None:
    told: list[str] = []
    fleet = Fleet(has_credential=lambda reference: True, notice=told.append)
    fleet.follow(
        a_policy(a_target("home"), a_target("mini", credential="env:KEY"), a_target("maxi", credential="env:KEY"))
    )
    for _ in range(3):
        fleet.entered("mini", at_s=1)
        gone = TargetFailure("mini: no money", kind=FaultKind.MONEY_GONE, target="mini")
        fleet.left("mini", at_s=1, answered=False, failure=gone)
    view = fleet.view(at_s=1)
    assert [view[name].circuit for name in ("home", "mini", "maxi")] == [Circuit.CLOSED, Circuit.OPEN, Circuit.OPEN]
    assert view["maxi"].rests_after == "money_gone"
    assert len(told) == 1
    assert "env:KEY" in told[0]
    rest_s = CONDUCT[FaultKind.MONEY_GONE].rest_s
    assert fleet.view(at_s=1 + rest_s)["maxi"].circuit is Circuit.HALF_OPEN
    fleet.entered("maxi", at_s=1 + rest_s)
    assert fleet.view(at_s=1 + rest_s)["mini"].circuit is Circuit.OPEN
    fleet.left("maxi", at_s=2 + rest_s, answered=True)
    assert {seen.circuit for seen in fleet.view(at_s=2 + rest_s).values()} == {Circuit.CLOSED}


def test_a_probe_whose_caller_leaves_does_not_keep_a_target_out() -> None:
    fleet = _fleet()
    fleet.follow(a_policy())
    for _ in range(ERRORS_TO_OPEN):
        fleet.entered("home", at_s=0)
        fleet.left("home", at_s=0, answered=False, failure=_failure(FaultKind.SERVER_ERROR))
    fleet.entered("home", at_s=REST_S)
    assert fleet.view(at_s=REST_S)["home"].circuit is Circuit.OPEN
    fleet.left("home", at_s=REST_S, answered=False)
    assert fleet.view(at_s=REST_S)["home"].circuit is Circuit.HALF_OPEN


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


def test_what_is_left_of_a_targets_minute_is_seen_and_comes_back() -> None:
    fleet = _fleet()
    fleet.follow(a_policy(a_target("home"), a_target("away", requests_per_minute=2, tokens_per_minute=1000)))
    fleet.entered("away", at_s=0, prompt_tokens=400)
    seen = fleet.view(at_s=0)
    assert (seen["away"].requests_left, seen["away"].tokens_left) == (1, 600)
    assert (seen["home"].requests_left, seen["home"].tokens_left) == (None, None)
    fleet.left("away", at_s=1, answered=True, usage=Usage(prompt=500, output=100), prompt_tokens=400)
    assert fleet.view(at_s=1)["away"].tokens_left == 400
    assert fleet.view(at_s=59)["away"].requests_left == 1
    assert fleet.view(at_s=66)["away"].requests_left == 2
    assert fleet.view(at_s=66)["away"].tokens_left == 1000


def test_the_first_token_is_predicted_by_the_answers_seen_lately() -> None:
    fleet = _fleet()
    fleet.follow(a_policy())
    assert fleet.view(at_s=0)["home"].predicted_ttft_ms is None
    for ttft_s in (1.0, 2.0):
        fleet.entered("home", at_s=0)
        fleet.left("home", at_s=0, answered=True, ttft_s=ttft_s)
    assert fleet.view(at_s=0)["home"].predicted_ttft_ms == 1000 + TTFT_WEIGHT * 1000


def test_an_answer_that_was_not_streamed_or_failed_predicts_nothing() -> None:
    fleet = _fleet()
    fleet.follow(a_policy())
    for answered, ttft_s in ((True, None), (False, 3.0)):
        fleet.entered("home", at_s=0)
        fleet.left("home", at_s=0, answered=answered, ttft_s=ttft_s)
    assert fleet.view(at_s=0)["home"].predicted_ttft_ms is None


def test_a_target_that_was_slow_is_tried_again_once_nobody_has_seen_it_for_a_while() -> None:
    fleet = _fleet()
    fleet.follow(a_policy())
    fleet.entered("home", at_s=0)
    fleet.left("home", at_s=5, answered=True, ttft_s=5)
    assert fleet.view(at_s=5 + TTFT_KNOWN_S - 0.1)["home"].predicted_ttft_ms == 5000
    fleet.entered("home", at_s=30)
    fleet.left("home", at_s=30, answered=True, ttft_s=5)
    assert fleet.view(at_s=30 + TTFT_KNOWN_S - 0.1)["home"].predicted_ttft_ms == 5000
    assert fleet.view(at_s=30 + TTFT_KNOWN_S)["home"].predicted_ttft_ms is None


def test_a_view_is_the_same_while_nothing_changes() -> None:
    fleet = _fleet()
    fleet.follow(a_policy(a_target("home"), a_target("away")))
    before = fleet.view(at_s=0)
    assert fleet.view(at_s=1) is before
    fleet.entered("home", at_s=1)
    after = fleet.view(at_s=1)
    assert after["away"] is before["away"]
    assert after["home"].in_flight == 1


def test_a_request_admitted_under_an_older_policy_may_still_go_to_a_target_that_is_gone() -> None:
    fleet = _fleet()
    fleet.follow(a_policy(a_target("home"), a_target("away")))
    fleet.follow(a_policy(a_target("home")))
    fleet.entered("away", at_s=0)
    assert fleet.in_flight() == {"home": 0, "away": 1}
    fleet.left("away", at_s=0, answered=False, failure=_failure(FaultKind.CUT))
    assert fleet.in_flight() == {"home": 0}
    assert set(fleet.view(at_s=0)) == {"home"}


def test_what_other_processes_sent_to_a_target_is_not_left_for_this_one() -> None:
    fleet = _fleet()
    fleet.follow(a_policy(a_target("home"), replace(a_target("limited"), requests_per_minute=10)))
    fleet.entered("limited", at_s=0.0, prompt_tokens=5)
    fleet.entered("home", at_s=0.0)
    assert fleet.sent(at_s=0.0) == {"limited": TargetSent(requests=1, tokens=5, requests_per_minute=10)}
    fleet.compared(Compared(processes=2, place=1, rooms={"limited": (3, None), "unknown": (5, 5)}))
    assert fleet.view(at_s=0.0)["limited"].requests_left == 3
    fleet.parted()
    assert fleet.view(at_s=0.0)["limited"].requests_left == 4


def _taught(fleet: Fleet) -> None:
    """Three answers of the target "home", each 100 tokens of prompt in 200 ms."""
    for _ in range(3):
        meter = Meter(started_s=0, prompt_estimate=100)
        fleet.entered("home", at_s=0, prompt_tokens=100, meter=meter, streamed=True)
        meter.saw_content(events=1, content_bytes=1, at_s=0.2)
        usage = Usage(prompt=100, output=2)
        fleet.left("home", at_s=1, answered=True, ttft_s=0.2, tpot_s=0.01, usage=usage, meter=meter)


def test_a_taught_fleet_predicts_what_its_own_prompt_adds_too() -> None:
    fleet = _fleet()
    fleet.follow(a_policy())
    _taught(fleet)
    seen = fleet.view(at_s=1)["home"]
    assert seen.prefill_tokens_per_s is not None
    assert seen.predicted_ttft_ms is not None
    assert seen.predicted_ttft_ms < 50
    assert seen.expected_ttft_ms(prompt_tokens=100) == pytest.approx(200, rel=0.02)
    assert (seen.expected_ttft_ms(prompt_tokens=1000) or 0) > 1500


def test_a_prompt_counts_in_the_view_until_its_first_content_passes() -> None:
    fleet = _fleet()
    fleet.follow(a_policy())
    _taught(fleet)
    meter = Meter(started_s=2, prompt_estimate=0)
    fleet.entered("home", at_s=2, prompt_tokens=10_000, meter=meter, streamed=True)
    before = fleet.view(at_s=2)["home"].predicted_ttft_ms
    meter.saw_content(events=1, content_bytes=1, at_s=3)
    after = fleet.view(at_s=3)["home"].predicted_ttft_ms
    assert before is not None
    assert after is not None
    assert before > 10_000
    assert after < 100


def test_another_model_at_the_same_name_has_everything_to_prove_again() -> None:
    fleet = _fleet()
    fleet.follow(a_policy(a_target()))
    _taught(fleet)
    fleet.serves("home", instead="llama")
    assert fleet.view(at_s=1)["home"].serves_instead == "llama"
    fleet.follow(a_policy(a_target(model="another")))
    seen = fleet.view(at_s=1)["home"]
    assert seen.prefill_tokens_per_s is None
    assert seen.serves_instead == ""


def test_a_view_without_news_is_the_same_view_and_grows_old_by_the_second() -> None:
    fleet = _fleet()
    fleet.follow(a_policy())
    told = {SignalName.RUNNING: 3.0, SignalName.WAITING: 1.0}
    fleet.polled("home", EngineSignals(at_s=10.0, numbers=told, missing={}), ours=0)
    view = fleet.view(at_s=10.1)
    assert (view["home"].others, view["home"].waiting, view["home"].age_s) == (4, 1, 0.0)
    assert fleet.view(at_s=10.9) is view
    assert fleet.view(at_s=11.0)["home"].age_s == 1.0
    assert fleet.view(at_s=12.5)["home"].waiting is None


def test_a_fleet_is_busy_while_anything_is_in_flight_or_was_sent_lately() -> None:
    fleet = _fleet()
    fleet.follow(a_policy())
    assert not fleet.is_busy(at_s=0, lately_s=5)
    fleet.entered("home", at_s=1)
    assert fleet.is_busy(at_s=100, lately_s=5)
    fleet.left("home", at_s=101, answered=True)
    fleet.entered("home", at_s=102)
    fleet.left("home", at_s=102, answered=True)
    assert fleet.is_busy(at_s=106.9, lately_s=5)
    assert not fleet.is_busy(at_s=107, lately_s=5)


def test_a_target_that_rested_for_its_account_is_in_service_under_another_credential() -> None:
    fleet = _fleet()
    fleet.follow(a_policy(a_target("home", credential="env:OLD")))
    fleet.entered("home", at_s=0)
    fleet.left("home", at_s=0, answered=False, failure=_failure(FaultKind.AUTH))
    assert fleet.view(at_s=0)["home"].circuit is Circuit.OPEN
    fleet.follow(a_policy(a_target("home", credential="env:NEW")))
    assert fleet.view(at_s=0)["home"].circuit is Circuit.CLOSED


def test_a_machine_that_tells_nothing_is_idle_when_nothing_was_there_for_a_while() -> None:
    fleet = _fleet()
    fleet.follow(a_policy(a_target("home", kind="openai_compatible")))
    meter = Meter(started_s=100, prompt_estimate=10)
    fleet.entered("home", at_s=100, meter=meter, streamed=True)
    fleet.left("home", at_s=101, answered=True, meter=meter)
    assert not fleet.view(at_s=101 + IDLE_AFTER_S - 0.1)["home"].is_idle
    assert fleet.view(at_s=101 + IDLE_AFTER_S)["home"].is_idle


def test_what_an_engine_served_instead_is_forgotten_when_a_seller_takes_its_name() -> None:
    fleet = _fleet()
    fleet.follow(a_policy(a_target("home")))
    fleet.serves("home", instead="another")
    assert fleet.view(at_s=0)["home"].serves_instead == "another"
    fleet.follow(a_policy(a_target("home", hosting=Hosting.MANAGED, kind="openai")))
    assert fleet.view(at_s=0)["home"].serves_instead == ""


@pytest.mark.parametrize(
    "kind", [FaultKind.CUT, FaultKind.REFUSED_CONNECTION, FaultKind.CONNECT_TIMEOUT, FaultKind.IDLE_TIMEOUT]
)
def test_a_machine_of_ours_whose_connection_broke_is_in_doubt_until_it_was_asked_after_that(kind: FaultKind) -> None:
    fleet = _fleet()
    fleet.follow(a_policy(a_target("home"), a_target("away", hosting=Hosting.MANAGED)))
    for name in ("home", "away"):
        fleet.entered(name, at_s=10)
        fleet.left(name, at_s=12, answered=False, failure=TargetFailure("it failed", kind=kind, target=name))
    assert [fleet.is_in_doubt(name) for name in ("home", "away", "nobody")] == [True, False, False]
    fleet.is_sure("home", at_s=11)
    assert fleet.is_in_doubt("home"), "what it said before it broke is another's word"
    fleet.is_sure("home", at_s=12)
    assert not fleet.is_in_doubt("home")


def test_what_says_nothing_of_its_connection_leaves_nothing_in_doubt() -> None:
    fleet = _fleet()
    fleet.follow(a_policy())
    for kind in (FaultKind.OVERLOADED, FaultKind.BAD_REQUEST, FaultKind.FIRST_TOKEN_TIMEOUT, FaultKind.SERVER_ERROR):
        fleet.entered("home", at_s=0)
        fleet.left("home", at_s=0, answered=False, failure=_failure(kind))
    fleet.entered("home", at_s=0)
    fleet.left("home", at_s=0, answered=True)
    assert not fleet.is_in_doubt("home")


def test_another_machine_at_the_same_name_is_in_no_doubt() -> None:
    fleet = _fleet()
    fleet.follow(a_policy())
    fleet.entered("home", at_s=0)
    fleet.left("home", at_s=0, answered=False, failure=_failure(FaultKind.CUT))
    fleet.follow(a_policy(a_target(url="http://127.0.0.1:9/v1")))
    assert not fleet.is_in_doubt("home")
