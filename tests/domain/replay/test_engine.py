"""`app.domain.replay.engine` against closed forms, and against the same engine taken step by step."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import accumulate
from math import ceil, inf
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.replay.engine import BatchingEngine
from app.domain.replay.job import Job
from app.domain.replay.speed import EngineSpeed
from app.domain.signals import SignalName
from tests.domain.replay.recording import Recorded, answered, happen_until

#: An A100 with a model of 70 B, as published.
A100 = EngineSpeed(step_s=0.008, step_per_sequence_s=0.00065, prefill_tokens_per_s=12_000, sequences_most=64)
#: One request at a time, and no prefill to speak of: a server of a queue as books have it.
ONE = EngineSpeed(step_s=0.01, step_per_sequence_s=0.0, prefill_tokens_per_s=1e12, sequences_most=1)
ONE_AND_MORE = replace(ONE, sequences_most=8)


def a_job(request: Recorded | None = None, *, prompt: int = 1, output: int = 1) -> Job:
    return Job(request or Recorded(), target="it", prompt_tokens=prompt, output_tokens=output)


@pytest.mark.parametrize("prompt", [1, 1200, 2048, 2049, 10_000])
def test_an_idle_engine_takes_a_step_for_each_part_of_the_prompt_and_its_prefill(prompt: int) -> None:
    (request,) = answered(BatchingEngine(A100), [(5.0, prompt, 101)])
    first_s, ended_s = request.times
    assert first_s - 5 == pytest.approx(ceil(prompt / 2048) * 0.008 + prompt / 12_000)
    assert ended_s - first_s == pytest.approx(100 * (0.008 + 0.00065))


def test_a_full_batch_makes_as_many_tokens_a_second_as_the_curve_says() -> None:
    speed = replace(A100, prefill_tokens_per_s=1e12)
    requests = answered(BatchingEngine(speed), [(0.0, 1, 1000)] * (3 * 64))
    took_s = max(request.times[1] for request in requests)
    assert 3 * 64 * 1000 / took_s == pytest.approx(64 / (0.008 + 0.00065 * 64), rel=0.01)
    assert float(speed.full_decode_tokens_per_s) == pytest.approx(64 / (0.008 + 0.00065 * 64), abs=0.01)


def test_prefill_takes_its_time_beside_decoding() -> None:
    """So many prompt tokens cost the same time whether or not others decode: a step of n and their prefill."""
    engine = BatchingEngine(A100)
    others = [Recorded() for _ in range(9)]
    for other in others:
        engine.add(a_job(other, output=100_000), at_s=0.0)
    happen_until(engine, 1.0)
    assert all(other.first_s is not None for other in others)
    request = Recorded()
    before_s = engine.next_s
    engine.add(a_job(request, prompt=1000), at_s=1.0)
    step_begins_s = engine.next_s
    assert 1.0 <= step_begins_s < before_s
    happen_until(engine, 2.0)
    assert request.first_s == pytest.approx(step_begins_s + 0.008 + 0.00065 * 9 + 1000 / 12_000)


def test_who_comes_in_the_middle_of_a_step_waits_for_its_end() -> None:
    engine, request = BatchingEngine(ONE_AND_MORE), Recorded()
    engine.add(a_job(output=100), at_s=0.0)
    happen_until(engine, 0.105)
    engine.add(a_job(request), at_s=0.105)
    happen_until(engine, inf)
    assert request.times == (pytest.approx(0.12), pytest.approx(0.12))


def test_regular_arrivals_at_a_server_that_is_too_slow_wait_longer_one_after_the_other() -> None:
    """D/D/1: with a service of S and one arrival every A < S, the n-th waits n·(S − A)."""
    service_s, every_s = 10 * 0.01, 0.07
    requests = answered(BatchingEngine(ONE), [(n * every_s, 1, 10) for n in range(200)])
    for n, request in enumerate(requests):
        first_s, ended_s = request.times
        assert first_s - n * every_s == pytest.approx(n * (service_s - every_s) + 0.01)
        assert ended_s == pytest.approx((n + 1) * service_s)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_random_arrivals_wait_as_long_as_pollaczek_and_khinchine_say(load: float) -> None:
    """M/D/1: the mean wait is ρ·S / 2(1 − ρ)."""
    service_s, draw = 10 * 0.01, random.Random(7)
    at_s, asked = 0.0, []
    for _ in range(30_000):
        at_s += draw.expovariate(load / service_s)
        asked.append((at_s, 1, 10))
    requests = answered(BatchingEngine(ONE), asked)
    waits_s = [request.times[0] - 0.01 - arrived_s for request, (arrived_s, _, _) in zip(requests, asked, strict=True)]
    assert min(waits_s) == pytest.approx(0)
    assert fmean(waits_s) == pytest.approx(load * service_s / (2 * (1 - load)), rel=0.05)


def test_a_kv_cache_lets_in_what_it_can_hold_to_its_end_and_no_more() -> None:
    engine = BatchingEngine(replace(ONE_AND_MORE, kv_tokens=100))
    assert engine.holds(prompt_tokens=60, output_tokens=40)
    assert not engine.holds(prompt_tokens=61, output_tokens=40)
    requests = answered(engine, [(0.0, 10, 40), (0.001, 10, 40), (0.002, 10, 30), (0.003, 10, 1)])
    assert requests[0].first_s == pytest.approx(0.01)
    assert requests[1].first_s == pytest.approx(0.02)
    assert requests[2].first_s == pytest.approx(requests[0].times[1] + 0.01)
    assert requests[3].first_s == pytest.approx(requests[1].times[1] + 0.01)


def test_it_tells_what_runs_what_waits_and_how_long_tokens_took() -> None:
    engine = BatchingEngine(replace(A100, sequences_most=2, kv_tokens=1000))
    assert engine.next_s == inf
    for _ in range(5):
        engine.add(a_job(prompt=10, output=90), at_s=0.0)
    happen_until(engine, 0.3)
    told = engine.numbers(at_s=0.3)
    assert told[SignalName.RUNNING] == 2
    assert told[SignalName.WAITING] == 3
    assert told[SignalName.SLOTS] == 2
    assert told[SignalName.KV_USAGE] == pytest.approx(0.2)
    assert told[SignalName.ITL_SUM_S] / told[SignalName.ITL_COUNT] == pytest.approx(0.008 + 2 * 0.00065, rel=1e-3)
    assert 0.25 < told[SignalName.ITL_SUM_S] / 2 < 0.3
    happen_until(engine, inf)
    assert engine.numbers(at_s=9.0)[SignalName.RUNNING] == 0
    assert engine.numbers(at_s=9.0)[SignalName.ITL_COUNT] == 5 * 89


SPEEDS = st.builds(
    EngineSpeed,
    step_s=st.sampled_from([0.008, 0.05]),
    step_per_sequence_s=st.sampled_from([0.0, 0.00065]),
    prefill_tokens_per_s=st.sampled_from([300.0, 12_000.0]),
    sequences_most=st.integers(1, 5),
    kv_tokens=st.none() | st.integers(400, 900),
    step_tokens=st.sampled_from([16, 2048]),
)
#: Seconds, of such odd lengths that no request comes at the very end of a step.
GAPS = st.integers(0, 500).map(lambda number: number * 0.00101737)
PIECES = st.lists(st.tuples(GAPS, st.integers(1, 200), st.integers(1, 200)), min_size=1, max_size=25)


def one_after_the_other(pieces: list[tuple[float, int, int]]) -> list[tuple[float, int, int]]:
    """What stands first in each piece is the time since the one before."""
    times_s = accumulate(gap_s for gap_s, _, _ in pieces)
    return [(at_s, prompt, output) for at_s, (_, prompt, output) in zip(times_s, pieces, strict=True)]


@given(speed=SPEEDS, pieces=PIECES)
def test_runs_of_steps_come_to_the_same_as_steps_one_by_one(
    speed: EngineSpeed, pieces: list[tuple[float, int, int]]
) -> None:
    """Every request begins once and ends once, first come first served, at the times of the plain engine below."""
    asked = one_after_the_other(pieces)
    got = [request.times for request in answered(BatchingEngine(speed), asked)]
    wanted = step_by_step(speed, asked)
    assert [first_s for first_s, _ in got] == pytest.approx([first_s for first_s, _ in wanted])
    assert [ended_s for _, ended_s in got] == pytest.approx([ended_s for _, ended_s in wanted])
    for (first_s, ended_s), (at_s, _, output) in zip(got, asked, strict=True):
        assert at_s < first_s <= ended_s
        assert ended_s - first_s >= (output - 1) * speed.step_with_s(1) - 1e-9


def step_by_step(speed: EngineSpeed, asked: list[tuple[float, int, int]]) -> list[tuple[float, float]]:
    """The same engine, a step at a time and nothing clever."""
    left = [[prompt, output] for _, prompt, output in asked]
    firsts, ends = [0.0] * len(asked), [0.0] * len(asked)
    waiting: list[int] = []
    running: list[int] = []
    next_one, now_s = 0, 0.0
    while next_one < len(asked) or waiting or running:
        while next_one < len(asked) and asked[next_one][0] < now_s:
            waiting.append(next_one)
            next_one += 1
        if not waiting and not running:
            now_s = asked[next_one][0]
            waiting.append(next_one)
            next_one += 1
        decoding = [each for each in running if left[each][0] == 0]
        budget = most = max(1, speed.step_tokens - len(decoding))
        read = {}
        for each in running:
            if left[each][0] and budget:
                read[each] = min(left[each][0], budget)
                budget -= read[each]
        while waiting and budget and len(running) < speed.sequences_most:
            each = waiting[0]
            held = sum(asked[one][1] + asked[one][2] for one in running)
            if speed.kv_tokens is not None and held + asked[each][1] + asked[each][2] > speed.kv_tokens:
                break
            running.append(waiting.pop(0))
            read[each] = min(left[each][0], budget)
            budget -= read[each]
        now_s += speed.step_with_s(len(decoding)) + (most - budget) / speed.prefill_tokens_per_s
        for each in decoding:
            left[each][1] -= 1
        for each, tokens in read.items():
            left[each][0] -= tokens
            if not left[each][0]:
                firsts[each] = now_s
                left[each][1] -= 1
        for each in [each for each in running if left[each] == [0, 0]]:
            ends[each] = now_s
            running.remove(each)
    return list(zip(firsts, ends, strict=True))
