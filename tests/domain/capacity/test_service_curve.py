from __future__ import annotations

from dataclasses import replace
from math import inf, isfinite, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.capacity.service_curve import (
    ANSWERS_LEAST,
    IDLE,
    USUAL_SHAPE,
    CurveFit,
    Load,
    ServiceCurve,
)
from app.domain.engine import STEP_TOKENS

#: An A100 with a model of 70 B, as published.
A100 = ServiceCurve(
    step_s=0.008,
    step_per_sequence_s=0.00065,
    prefill_s_per_token=1 / 12_000,
    overhead_s=0.01,
    output_tokens=211.0,
)
CURVES = st.builds(
    ServiceCurve,
    step_s=st.floats(0, 1),
    step_per_sequence_s=st.floats(0, 0.1),
    prefill_s_per_token=st.floats(0, 0.1),
    overhead_s=st.floats(0, 1),
    output_tokens=st.floats(0, 10_000),
)
LOADS = st.builds(
    Load,
    in_flight=st.integers(0, 2000),
    prefill_tokens=st.integers(0, 1_000_000),
    places=st.none() | st.integers(1, 512),
)
SECONDS = st.floats(allow_nan=True, allow_infinity=True)


def test_the_gain_of_batching_is_the_published_one() -> None:
    for sequences, gain in ((8, 5.2), (32, 9.6), (64, 11.2)):
        got = sequences * A100.step_with_s(1) / A100.step_with_s(sequences)
        assert got == pytest.approx(gain, abs=0.07)


def test_an_idle_engine_takes_its_overhead_one_step_and_the_prompt() -> None:
    prompt_s = 1200 / 12_000 + 1200 / STEP_TOKENS * 0.008
    assert A100.ttft_s(IDLE, prompt_tokens=1200) == pytest.approx(0.01 + 0.008 + prompt_s)


def test_a_full_engine_lets_wait_for_as_many_ends_as_stand_ahead() -> None:
    full = Load(in_flight=64 + 9, places=64)
    assert full.beyond == 10
    assert A100.queue_s(full) == pytest.approx(10 * 211 / 64 * (0.008 + 0.00065 * 64))


def test_an_engine_whose_places_are_not_known_is_not_taken_to_let_anybody_wait() -> None:
    assert A100.queue_s(Load(in_flight=10_000)) == 0


def test_tokens_in_the_cache_are_not_computed_again() -> None:
    assert A100.ttft_s(IDLE, prompt_tokens=1000, cached_tokens=400) == A100.ttft_s(IDLE, prompt_tokens=600)
    assert A100.ttft_s(IDLE, prompt_tokens=10, cached_tokens=400) == A100.ttft_s(IDLE)


@given(curve=CURVES, load=LOADS, prompt=st.integers(0, 1_000_000))
def test_what_a_prompt_adds_can_be_told_apart(curve: ServiceCurve, load: Load, prompt: int) -> None:
    assert curve.ttft_s(load, prompt_tokens=prompt) == pytest.approx(curve.ttft_s(load) + prompt * curve.token_s(load))


@given(curve=CURVES, load=LOADS, more=st.integers(1, 100), prompt=st.integers(0, 100_000))
def test_more_load_and_longer_prompts_never_make_it_faster(
    curve: ServiceCurve, load: Load, more: int, prompt: int
) -> None:
    now_s = curve.ttft_s(load, prompt_tokens=prompt)
    assert curve.ttft_s(replace(load, in_flight=load.in_flight + more), prompt_tokens=prompt) >= now_s
    assert curve.ttft_s(replace(load, prefill_tokens=load.prefill_tokens + more), prompt_tokens=prompt) >= now_s
    assert curve.ttft_s(load, prompt_tokens=prompt + more) >= now_s
    assert isfinite(now_s)
    assert now_s >= 0


@given(
    step_ms=st.floats(1, 100),
    per_sequence_ms=st.floats(0.1, 10),
    prefill_per_s=st.floats(50, 50_000),
    overhead_ms=st.floats(0, 500),
    step_tokens=st.sampled_from([448, STEP_TOKENS, 8192]),
)
def test_an_engine_that_follows_the_formula_is_learned_exactly(
    step_ms: float, per_sequence_ms: float, prefill_per_s: float, overhead_ms: float, step_tokens: int
) -> None:
    engine = ServiceCurve(
        step_tokens=step_tokens,
        step_s=step_ms / 1000,
        step_per_sequence_s=per_sequence_ms / 1000,
        prefill_s_per_token=1 / prefill_per_s,
        overhead_s=overhead_ms / 1000,
        output_tokens=100.0,
    )
    fit = CurveFit(step_tokens=step_tokens)
    for sequences in (1, 4, 16, 32, 2, 8):
        fit = fit.saw_step(sequences=sequences, step_s=engine.step_with_s(sequences)).saw_output(tokens=100)
    for in_flight, prefill, tokens in ((0, 0, 50), (3, 800, 1000), (9, 0, 4000), (1, 100, 10)):
        load = Load(in_flight=in_flight, prefill_tokens=prefill, places=64)
        ttft_s = engine.ttft_s(load, prompt_tokens=tokens)
        fit = fit.saw_first_token(load=load, computed_tokens=tokens, ttft_s=ttft_s)
    learned = fit.curve
    assert learned is not None
    full = Load(in_flight=100, prefill_tokens=500, places=64)
    assert learned.ttft_s(full, prompt_tokens=2000) == pytest.approx(engine.ttft_s(full, prompt_tokens=2000), rel=1e-3)


@pytest.mark.parametrize(("ahead", "counts"), [(0, "queue"), (1_000, "queue"), (100_000, "prefill")])
def test_what_is_ahead_is_prefill_or_the_queue_whichever_takes_longer(ahead: int, counts: str) -> None:
    curve = ServiceCurve(
        step_s=0.01, step_per_sequence_s=0.001, prefill_s_per_token=1e-4, overhead_s=0.02, output_tokens=100
    )
    load = Load(in_flight=13, prefill_tokens=ahead, places=10)
    token_s = 1e-4 + 0.02 / 2048
    ahead_s = {"queue": 4 * 100 / 10 * 0.02, "prefill": ahead * token_s}[counts]
    assert curve.ttft_s(load, prompt_tokens=500) == pytest.approx(0.02 + 0.02 + 500 * token_s + ahead_s)


def test_nothing_is_predicted_before_some_answers_were_timed() -> None:
    fit = CurveFit().saw_step(sequences=1, step_s=0.01)
    for _ in range(ANSWERS_LEAST):
        assert fit.curve is None
        fit = fit.saw_first_token(load=IDLE, computed_tokens=10, ttft_s=0.1)
    assert fit.curve is not None


def test_steps_seen_under_one_load_alone_take_the_usual_shape() -> None:
    fit = CurveFit()
    for _ in range(ANSWERS_LEAST):
        fit = fit.saw_step(sequences=1, step_s=0.02).saw_first_token(load=IDLE, computed_tokens=10, ttft_s=0.1)
    curve = fit.curve
    assert curve is not None
    assert curve.step_with_s(1) == pytest.approx(0.02)
    assert curve.step_per_sequence_s == pytest.approx(USUAL_SHAPE * curve.step_s)


def test_an_answer_that_had_to_queue_says_nothing_of_prefill() -> None:
    fit = CurveFit()
    assert fit.saw_first_token(load=Load(in_flight=4, places=4), computed_tokens=10, ttft_s=9.0) is fit


def test_an_engine_that_became_slower_is_known_as_slower() -> None:
    fit = CurveFit()
    for ttft_s in [0.1] * 500 + [1.0] * 500:
        fit = fit.saw_first_token(load=IDLE, computed_tokens=100, ttft_s=ttft_s)
    curve = fit.curve
    assert curve is not None
    assert curve.ttft_s(IDLE, prompt_tokens=100) == pytest.approx(1.0, rel=0.02)


@given(
    samples=st.lists(st.tuples(LOADS, st.integers(-10, 10**9), SECONDS, SECONDS, SECONDS), max_size=30),
    load=LOADS,
    prompt=st.integers(0, 99),
)
def test_no_nonsense_makes_a_prediction_that_is_no_number(
    samples: list[tuple[Load, int, float, float, float]], load: Load, prompt: int
) -> None:
    fit = CurveFit()
    for _ in range(ANSWERS_LEAST):
        fit = fit.saw_first_token(load=IDLE, computed_tokens=10, ttft_s=0.1)
    for at, tokens, ttft_s, step_s, output in samples:
        fit = fit.saw_first_token(load=at, computed_tokens=tokens, ttft_s=ttft_s)
        fit = fit.saw_step(sequences=at.in_flight, step_s=step_s).saw_output(tokens=output)
    curve = fit.curve
    assert curve is not None
    predicted_s = curve.ttft_s(load, prompt_tokens=prompt)
    assert isfinite(predicted_s)
    assert predicted_s >= 0


@pytest.mark.parametrize("ttft_s", [nan, inf, -1.0])
def test_a_time_that_cannot_be_changes_nothing(ttft_s: float) -> None:
    fit = CurveFit()
    assert fit.saw_first_token(load=IDLE, computed_tokens=10, ttft_s=ttft_s) is fit
