"""`app.documents.speeds`."""

from __future__ import annotations

import pytest

from app.documents.speeds import read_curves, read_paces
from app.domain.errors import BadRequest
from app.domain.replay.speed import EngineSpeed, Pace


def test_curves_are_read_by_target() -> None:
    assert read_curves(["gpu-a=8,0.65,12000,64", "gpu-b = 20, 0, 900.5, 8, 22000"]) == {
        "gpu-a": EngineSpeed(step_s=0.008, step_per_sequence_s=0.00065, prefill_tokens_per_s=12_000, sequences_most=64),
        "gpu-b": EngineSpeed(
            step_s=0.02, step_per_sequence_s=0, prefill_tokens_per_s=900.5, sequences_most=8, kv_tokens=22_000
        ),
    }
    assert read_paces(["hosted=500,20"]) == {"hosted": Pace(ttft_s=0.5, tpot_s=0.02)}
    assert read_paces([]) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("8,0.65,12000,64", "it has no =; write TARGET=STEP_MS,PER_SEQUENCE_MS"),
        ("=8,0.65,12000,64", "it names no target"),
        ("a=", "'' is no number"),
        ("a=8,0.65,12000", "it has 3 numbers"),
        ("a=8,0.65,12000,64,1,1", "it has 6 numbers"),
        ("a=8,fast,12000,64", "'fast' is no number"),
        ("a=0,0.65,12000,64", "must be above zero"),
        ("a=8,0.65,0,64", "must be above zero"),
        ("a=8,0.65,12000,0", "must be above zero"),
        ("a=8,0.65,12000,64,0", "must be above zero"),
        ("a=8,-1,12000,64", "-1 cannot be"),
        ("a=1e-300,0,12000,64", "a step takes from 0.001 to 10,000 ms"),
        ("a=10001,0,12000,64", "a step takes from 0.001 to 10,000 ms"),
        ("a=8,10001,12000,64", "a sequence adds at most as much"),
        ("a=8,0.65,0.001,64", "1 prompt token a second is the least"),
        ("a=8,inf,12000,64", "inf cannot be"),
        ("a=nan,1,12000,64", "nan cannot be"),
        ("a=8,1,1e30,64", "1e30 cannot be"),
        ("a=8,0.65,12000,6.4", "must be whole numbers"),
    ],
)
def test_a_curve_that_cannot_be_says_how_it_is_written(text: str, said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_curves([text])
    assert str(refused.value).startswith(f"--curve {text!r}: ")
    assert said in str(refused.value)


@pytest.mark.parametrize("step", ["0.001", "10000"])
@pytest.mark.parametrize("per_sequence", ["0", "10000"])
@pytest.mark.parametrize("prefill", ["1", "1e9"])
@pytest.mark.parametrize("sequences", ["1", "1e9"])
def test_every_curve_that_is_read_has_rates_that_price_something(
    step: str, per_sequence: str, prefill: str, sequences: str
) -> None:
    speed = read_curves([f"a={step},{per_sequence},{prefill},{sequences}"])["a"]
    assert speed.full_decode_tokens_per_s > 0
    assert speed.full_prefill_tokens_per_s > 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hosted=500", "it has 1 numbers; write TARGET=TTFT_MS,TPOT_MS"),
        ("hosted=500,-1", "-1 cannot be"),
        ("500,20", "it has no ="),
    ],
)
def test_a_pace_that_cannot_be_says_how_it_is_written(text: str, said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_paces([text])
    assert said in str(refused.value)


def test_a_target_has_one_speed() -> None:
    with pytest.raises(BadRequest, match='--pace is given twice for "a": keep one'):
        read_paces(["a=1,1", "a=2,1"])
    with pytest.raises(BadRequest, match='--curve is given twice for "a"'):
        read_curves(["a=8,1,1,1", "a = 8,1,1,1"])
