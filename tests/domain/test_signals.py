"""`app.domain.signals`: a number, missing or stale, and where each stands."""

from __future__ import annotations

import pytest

from app.domain.signals import (
    Absent,
    Combine,
    EngineSignals,
    Entry,
    Figure,
    Known,
    Missing,
    Series,
    Signal,
    SignalName,
    Stale,
    entry,
    figure,
    nothing_read,
    rule,
)

READ = EngineSignals(
    at_s=100.0,
    numbers={SignalName.RUNNING: 3.0, SignalName.WAITING: 0.0},
    missing={SignalName.KV_USAGE: Absent.NOT_EMITTED},
)


def test_a_signal_is_known_with_its_age_until_it_is_too_old() -> None:
    assert READ.signal(SignalName.RUNNING, at_s=100.4, usable_for_s=0.5) == Known(number=3.0, age_s=pytest.approx(0.4))
    assert READ.signal(SignalName.RUNNING, at_s=100.6, usable_for_s=0.5) == Stale(last=3.0, age_s=pytest.approx(0.6))


def test_a_zero_that_was_said_is_a_zero_and_one_that_was_not_is_missing() -> None:
    assert READ.signal(SignalName.WAITING, at_s=100, usable_for_s=1) == Known(number=0.0, age_s=0.0)
    assert READ.signal(SignalName.KV_USAGE, at_s=100, usable_for_s=1) == Missing(why=Absent.NOT_EMITTED)
    assert READ.signal(SignalName.SLOTS, at_s=100, usable_for_s=1) == Missing(why=Absent.NEVER_READ)


def test_a_missing_signal_stays_missing_however_old_it_is() -> None:
    read = nothing_read(why="nobody answers", at_s=0)
    assert read.signal(SignalName.RUNNING, at_s=9_999, usable_for_s=1) == Missing(why=Absent.UNREADABLE)
    assert read.faults == ("nobody answers",)


@pytest.mark.parametrize(
    "signal", [Known(number=0.0, age_s=0.0), Stale(last=0.0, age_s=9.0), Missing(why=Absent.NOT_EMITTED)]
)
def test_no_signal_can_be_read_as_a_number_or_a_truth_by_accident(signal: Signal) -> None:
    with pytest.raises(TypeError):
        bool(signal)
    for use in (float, int, lambda said: said + 1, lambda said: said > 0, lambda said: max(said, 1)):
        with pytest.raises(TypeError):
            use(signal)
    assert not hasattr(signal, "number") or isinstance(signal, Known)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("vllm:num_requests_running", Figure(of=Series(name="vllm:num_requests_running"))),
        ('q{type="waiting",rank="0"}', Figure(of=Series(name="q", labels=(("type", "waiting"), ("rank", "0"))))),
        ("q{status=waiting}", Figure(of=Series(name="q", labels=(("status", "waiting"),)))),
        ("info[size_tokens]", Figure(of=Series(name="info", label="size_tokens"))),
        ("a / b", Figure(of=Series(name="a"), over=Series(name="b"))),
        ("a * b", Figure(of=Series(name="a"), times=Series(name="b"))),
        (
            "/v1/loads?include=core#loads[].running",
            Figure(of=Entry(page="/v1/loads?include=core", keys=("loads", "[]", "running"))),
        ),
        ("/slots#[]", Figure(of=Entry(page="/slots", keys=("[]",)))),
        ("/slots#[].n_ctx", Figure(of=Entry(page="/slots", keys=("[]", "n_ctx")))),
    ],
)
def test_a_figure_is_read_as_people_write_it(text: str, meant: Figure) -> None:
    assert figure(text) == meant


@pytest.mark.parametrize("text", ["", "a b", "a + b", "9lives", "a{b}", "a{b=c", "/page", "/page#", "a / b / c", "a[]"])
def test_a_figure_that_cannot_be_read_says_how_it_is_written(text: str) -> None:
    with pytest.raises(ValueError, match=r"written|one place"):
        figure(text)


def test_an_entry_is_no_metric() -> None:
    assert entry("/version#version") == Entry(page="/version", keys=("version",))
    with pytest.raises(ValueError, match="JSON page"):
        entry("vllm:version")


def test_a_rule_sums_unless_it_says_otherwise() -> None:
    assert rule("a").combine is Combine.SUM
    assert [place.of for place in rule("a", "b", by=Combine.MAX).figures] == [Series(name="a"), Series(name="b")]
