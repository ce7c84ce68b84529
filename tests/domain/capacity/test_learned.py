from __future__ import annotations

import pytest

from app.domain.capacity.learned import (
    HALF_LIFE_S,
    VERSION_MOST,
    Identity,
    LearnedCurve,
    is_other_version,
    version_kept,
)
from app.domain.capacity.service_curve import ANSWERS_LEAST, IDLE, CurveFit, Load

HOME = Identity(target="home", url="http://10.0.0.1/v1", model="m", kind="vllm")


def _seen(answers: int) -> CurveFit:
    fit = CurveFit()
    for number in range(answers):
        fit = fit.saw_step(sequences=1 + number % 8, step_s=0.01 + 0.001 * (1 + number % 8))
        fit = fit.saw_output(tokens=20)
        fit = fit.saw_first_token(load=IDLE, computed_tokens=100 * (1 + number % 9), ttft_s=0.1 * (1 + number % 9))
    return fit


def test_what_is_old_predicts_the_same_and_gives_way_sooner() -> None:
    kept = LearnedCurve(of=HOME, fit=_seen(200))
    old = kept.after(2 * HALF_LIFE_S)
    assert old.fit.answers == pytest.approx(kept.fit.answers / 4)
    assert (kept.fit.curve, old.fit.curve) != (None, None)
    load = Load(in_flight=4, prefill_tokens=900)
    now, then = kept.fit.curve, old.fit.curve
    assert now is not None
    assert then is not None
    assert then.ttft_s(load, prompt_tokens=500) == pytest.approx(now.ttft_s(load, prompt_tokens=500))
    slower = [
        fit.saw_first_token(load=IDLE, computed_tokens=500, ttft_s=9).curve for fit in (kept.fit, old.fit) if fit.curve
    ]
    assert slower[0] is not None
    assert slower[1] is not None
    assert slower[1].ttft_s(IDLE, prompt_tokens=500) > slower[0].ttft_s(IDLE, prompt_tokens=500) * 1.3


def test_what_is_a_week_old_predicts_nothing() -> None:
    kept = LearnedCurve(of=HOME, fit=_seen(500))
    assert kept.after(5 * HALF_LIFE_S).fit.curve is not None
    assert kept.after(7 * HALF_LIFE_S).fit.curve is None


@pytest.mark.parametrize("age_s", [0, -5, 1e18])
def test_no_age_makes_nonsense(age_s: float) -> None:
    kept = LearnedCurve(of=HOME, fit=_seen(ANSWERS_LEAST))
    assert kept.after(age_s).fit.answers == (0 if age_s > 1 else kept.fit.answers)


def test_versions_differ_only_where_both_are_known() -> None:
    assert is_other_version("0.11", "0.12")
    assert not is_other_version("0.11", "0.11")
    assert not is_other_version("", "0.12")
    assert not is_other_version("0.11", "")


def test_a_version_is_kept_as_far_as_it_can_be_read() -> None:
    assert version_kept("0.11.0+cpu") == "0.11.0+cpu"
    assert version_kept("0.\x00\ud8001\n") == "0.1"
    assert len(version_kept("v" * 10_000)) == VERSION_MOST
