from __future__ import annotations

from app.telemetry import names
from app.telemetry.queues import QueueMeter


def test_waits_are_counted_by_target_and_by_how_they_ended() -> None:
    meter = QueueMeter(most_targets=10)
    meter.waited(target="home", waited_s=0.3, ended="sent")
    meter.waited(target="home", waited_s=7.0, ended="timeout")
    meter.waited(target="home", waited_s=0.0, ended="full")
    lines = list(meter.lines())
    assert f'{names.QUEUE_WAIT.name}_count{{target="home"}} 2' in lines
    assert f'{names.QUEUE_WAIT.name}_bucket{{target="home",le="0.5"}} 1' in lines
    for ended in ("sent", "timeout", "full"):
        assert f'{names.QUEUE_ENDED.name}{{target="home",result="{ended}"}} 1' in lines


def test_more_targets_than_it_may_have_are_counted_together() -> None:
    meter = QueueMeter(most_targets=1)
    for target in ("one", "two", "three", "one"):
        meter.waited(target=target, waited_s=1.0, ended="sent")
    lines = list(meter.lines())
    assert f'{names.QUEUE_ENDED.name}{{target="one",result="sent"}} 2' in lines
    assert f'{names.QUEUE_ENDED.name}{{target="other",result="sent"}} 2' in lines
