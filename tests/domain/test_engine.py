"""`app.domain.engine`: a family as data, and a reading of one engine."""

from __future__ import annotations

from app.domain.engine import EngineFamily, EngineReading, Flag, Health, Lack, ServedModel
from app.domain.signals import SignalName, nothing_read, rule

FAMILY = EngineFamily(
    name="mine",
    title="mine",
    signals={
        SignalName.RUNNING: rule("my_running", "/load#running"),
        SignalName.WAITING: rule("/load#waiting"),
        SignalName.KV_USAGE: rule("my_used / my_total"),
        SignalName.SLOTS: rule("/slots#[]"),
    },
    flags=(
        Flag(mends=Lack.METRICS, add="--metrics", because="Nobody sees the queue."),
        Flag(mends=Lack.SLOTS, add="--slots", because="Nobody sees the slots."),
    ),
)


def test_a_family_names_every_metric_and_page_that_its_signals_are_made_of_once() -> None:
    assert FAMILY.metric_names == {"my_running", "my_used", "my_total"}
    assert FAMILY.pages == ("/load", "/slots")


def test_a_lack_is_mended_by_its_own_flags_only() -> None:
    assert [flag.add for flag in FAMILY.flags_for(Lack.SLOTS)] == ["--slots"]
    assert FAMILY.flags_for(Lack.CACHED_TOKENS) == ()


def test_a_reading_knows_a_model_by_its_exact_name() -> None:
    served = ServedModel(name="small", context_tokens=4096)
    reading = EngineReading(
        at_s=0, health=Health.READY, signals=nothing_read(why="", at_s=0), models=(served,), version="1"
    )
    assert reading.model("small") is served
    assert reading.model("Small") is None
