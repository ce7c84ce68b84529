"""`app.domain.replay.arrival` and `app.domain.replay.speed`."""

from __future__ import annotations

from decimal import Decimal

from app.domain.replay.arrival import Arrival, hurried
from app.domain.replay.speed import EngineSpeed
from tests.makers import some_facts


def test_at_another_speed_requests_come_sooner_or_later_and_stay_what_they_are() -> None:
    arrivals = [
        Arrival(at_s=at_s, facts=some_facts(), prompt_tokens=100, output_tokens=10) for at_s in (0.0, 8.0, 80.0)
    ]
    assert [each.at_s for each in hurried(arrivals, speed=0.8)] == [0.0, 10.0, 100.0]
    assert [each.at_s for each in hurried(arrivals, speed=2)] == [0.0, 4.0, 40.0]
    assert all(each.facts == some_facts() for each in hurried(arrivals, speed=2))
    assert list(hurried(arrivals, speed=1)) == arrivals


def test_a_curve_says_what_a_measurement_at_saturation_would() -> None:
    speed = EngineSpeed(step_s=0.008, step_per_sequence_s=0.00065, prefill_tokens_per_s=12_000, sequences_most=64)
    assert speed.full_prefill_tokens_per_s == Decimal(12_000)
    assert speed.full_decode_tokens_per_s == Decimal("1290.32")
