"""What a target's place learns outlives its process: through the fleet, which is how everybody meets a place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.domain.capacity.learned import HALF_LIFE_S, LearnedCurve
from app.domain.metering.meter import Meter
from app.domain.signals import EngineSignals, SignalName
from app.domain.target import Hosting, Target, TargetSeen
from app.domain.usage import Usage
from app.live.fleet import Fleet
from app.live.target_load import CURVE_KNOWN_S
from app.live.target_place import TTFT_KNOWN_S
from app.ports.curves import KeptCurve
from tests.makers import a_policy, a_target

HOME = a_target("home")


def _fleet(*targets: Target) -> Fleet:
    fleet = Fleet(has_credential=lambda reference: True)
    fleet.follow(a_policy(*(targets or (HOME,))))
    return fleet


def _answers(fleet: Fleet, number: int, *, target: str = "home", ttft_s: float = 0.2, at_s: float = 0.0) -> None:
    """So many streamed answers came."""
    for each in range(number):
        meter, prompt = Meter(started_s=at_s, prompt_estimate=0), 100 * (1 + each % 5)
        fleet.entered(target, at_s=at_s, prompt_tokens=prompt, meter=meter, streamed=True)
        usage = Usage(prompt=prompt, output=9)
        ttft = ttft_s * (1 + each % 5)
        fleet.left(target, at_s=at_s, answered=True, ttft_s=ttft, tpot_s=0.01, usage=usage, meter=meter)


def _kept(fleet: Fleet, *, age_s: float = 0.0) -> list[KeptCurve]:
    return [KeptCurve(curve=curve, age_s=age_s) for curve in fleet.learned()]


def _known(*targets: Target, answers: int = 20) -> Fleet:
    fleet = _fleet(*targets)
    _answers(fleet, answers)
    return fleet


def _predicts(fleet: Fleet, *, at_s: float = 0.0) -> float | None:
    """What a prompt of 300 tokens is expected to wait; None: no curve is known."""
    seen: TargetSeen = fleet.view(at_s=at_s)["home"]
    return None if seen.prefill_tokens_per_s is None else seen.expected_ttft_ms(prompt_tokens=300)


def test_a_new_process_predicts_what_the_one_before_would_have() -> None:
    before, after = _known(), _fleet()
    assert _predicts(after) is None
    after.recall(_kept(before, age_s=3600), at_s=0)
    assert _predicts(after) == pytest.approx(_predicts(before), rel=1e-3)


def test_a_process_with_nothing_learned_keeps_nothing() -> None:
    fleet = _fleet(HOME, a_target("seller", hosting=Hosting.MANAGED))
    _answers(fleet, 5, target="seller")
    assert fleet.learned() == []


@pytest.mark.parametrize("changed", [{"url": "http://10.9.9.9/v1"}, {"model": "llama"}, {"kind": "sglang"}])
def test_what_was_learned_of_another_address_model_or_engine_is_void(changed: dict[str, str]) -> None:
    fleet = _fleet(a_target("home", **changed))
    fleet.recall(_kept(_known()), at_s=0)
    assert _predicts(fleet) is None
    assert fleet.learned() == []


def test_what_was_learned_under_a_name_that_the_policy_does_not_have_is_left() -> None:
    fleet = _fleet(a_target("elsewhere"))
    fleet.recall(_kept(_known()), at_s=0)
    assert fleet.learned() == []


def test_what_was_learned_of_another_version_is_void_whichever_is_heard_first() -> None:
    before = _known()
    before.runs("home", version="0.11")
    heard_first, heard_later, same = _fleet(), _fleet(), _fleet()
    heard_first.runs("home", version="0.12")
    heard_first.recall(_kept(before), at_s=0)
    heard_later.recall(_kept(before), at_s=0)
    assert _predicts(heard_later) is not None
    heard_later.runs("home", version="0.12")
    same.recall(_kept(before), at_s=0)
    same.runs("home", version="0.11")
    assert (_predicts(heard_first), _predicts(heard_later)) == (None, None)
    assert _predicts(same) is not None
    assert [curve.engine_version for curve in same.learned()] == ["0.11"]


def test_what_this_process_has_seen_itself_stands_unless_twice_as_much_is_kept() -> None:
    slow = _fleet()
    _answers(slow, 30, ttft_s=2.0)
    knows, hardly = _known(answers=20), _known(answers=10)
    before = _predicts(knows)
    for fleet in (knows, hardly):
        fleet.recall(_kept(slow), at_s=0)
    assert _predicts(knows) == before
    assert _predicts(hardly) == pytest.approx(_predicts(slow), rel=1e-3)


def test_what_is_old_counts_for_less_when_it_is_taken_over() -> None:
    fleet = _fleet()
    fleet.recall(_kept(_known(), age_s=HALF_LIFE_S), at_s=0)
    ((curve,), (fresh,)) = fleet.learned(), _known().learned()
    assert curve.fit.answers == pytest.approx(fresh.fit.answers / 2)


def test_a_curve_that_was_taken_over_is_forgotten_like_any_other_and_does_not_come_back() -> None:
    fleet, kept = _fleet(), _kept(_known())
    fleet.recall(kept, at_s=0)
    assert _predicts(fleet, at_s=CURVE_KNOWN_S - 1) is not None
    assert _predicts(fleet, at_s=CURVE_KNOWN_S) is None
    fleet.recall(kept, at_s=CURVE_KNOWN_S)
    assert _predicts(fleet, at_s=CURVE_KNOWN_S) is None
    _answers(fleet, 1, at_s=CURVE_KNOWN_S)
    assert _predicts(fleet, at_s=CURVE_KNOWN_S) is not None


def test_a_smoothed_time_is_taken_over_only_while_it_is_young() -> None:
    few = _known(answers=1)
    (curve,) = few.learned()
    assert curve.ttft_ms == pytest.approx(200)
    young, old = _fleet(), _fleet()
    young.recall([KeptCurve(curve=curve, age_s=TTFT_KNOWN_S - 5)], at_s=0)
    old.recall([KeptCurve(curve=curve, age_s=TTFT_KNOWN_S)], at_s=0)
    assert young.view(at_s=0)["home"].predicted_ttft_ms == pytest.approx(200)
    assert young.view(at_s=6)["home"].predicted_ttft_ms is None
    assert old.view(at_s=0)["home"].predicted_ttft_ms is None


def test_what_another_model_at_that_address_does_is_not_kept() -> None:
    fleet = _known()
    fleet.serves("home", instead="llama")
    assert fleet.learned() == []
    fleet.serves("home", instead="")
    assert [curve.of.model for curve in fleet.learned()] == [HOME.model]


@pytest.mark.parametrize("instead", ["", "llama"])
def test_another_model_at_that_address_teaches_nothing_of_the_one_that_is_meant(instead: str) -> None:
    fleet = _known()
    (before,) = fleet.learned()
    fleet.serves("home", instead=instead)
    for at_s in (1, 2, 3):
        counters = {SignalName.ITL_COUNT: 100.0 * at_s, SignalName.ITL_SUM_S: 90.0 * at_s}
        signals = EngineSignals(at_s=at_s, numbers={SignalName.RUNNING: 4.0, **counters}, missing={})
        fleet.polled("home", signals, ours=0)
    fleet.serves("home", instead="")
    (after,) = fleet.learned()
    assert (after.fit == before.fit) is bool(instead)


def test_a_target_that_the_policy_dropped_is_not_kept_while_its_last_requests_run() -> None:
    fleet = _known()
    fleet.entered("home", at_s=0)
    fleet.follow(a_policy(a_target("other")))
    assert fleet.learned() == []


def test_a_version_is_kept_only_as_it_can_be_written_down() -> None:
    fleet = _known()
    fleet.runs("home", version="0.11\x00" + "x" * 1000)
    (curve,) = fleet.learned()
    assert isinstance(curve, LearnedCurve)
    assert curve.engine_version.startswith("0.11x")
    assert len(curve.engine_version) < 100
    assert replace(curve, engine_version="") != curve
