"""`app.providers.engines.figures`: from pages to signals; what is not there is missing, with its reason."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from app.domain.engine import EngineFamily
from app.domain.signals import Absent, Combine, EngineSignals, SignalName, SignalRule, rule
from app.providers.engines.exposition import Exposition
from app.providers.engines.figures import Pages, signals_of, unmet_pages, values_at

RANKS = b"""\
running{engine="0"} 3
running{engine="1"} 4
kv{engine="0"} 0.25
kv{engine="1"} 0.75
blocks{kind="max"} 100
blocks{kind="per"} 16
blocks{kind="used"} 50
info{size="46592",other="None"} 1
used 30
total 120
nothing 0
nan NaN
"""


def family(**signals: SignalRule) -> EngineFamily:
    return EngineFamily(
        name="f", title="f", metrics="/m", signals={SignalName(name): each for name, each in signals.items()}
    )


def signals(
    page: bytes | None, *, json_pages: Mapping[str, object] | None = None, **rules: SignalRule
) -> EngineSignals:
    of = family(**rules)
    metrics = None
    if page is not None:
        metrics = Exposition(of.metric_names)
        metrics.feed(page)
        metrics.end()
    return signals_of(of, Pages(metrics=metrics, json=json_pages or {}), at_s=1.0)


@pytest.mark.parametrize(
    ("figures", "by", "number"),
    [
        (["running"], Combine.SUM, 7.0),
        (["kv"], Combine.MAX, 0.75),
        (["kv"], Combine.MIN, 0.25),
        (["kv"], Combine.MEAN, 0.5),
        (['blocks{kind="used"}'], Combine.SUM, 50.0),
        (['blocks{kind="max"} * blocks{kind="per"}'], Combine.SUM, 1600.0),
        (["used / total"], Combine.MAX, 0.25),
        (["info[size]"], Combine.SUM, 46592.0),
        (["renamed", "running"], Combine.SUM, 7.0),
        (["nothing"], Combine.SUM, 0.0),
    ],
)
def test_a_signal_is_what_its_first_figure_that_is_there_says(figures: list[str], by: Combine, number: float) -> None:
    assert signals(RANKS, running=rule(*figures, by=by)).numbers == {SignalName.RUNNING: number}


def test_a_scale_turns_percent_into_parts() -> None:
    read = signals(b"percent 25\n", kv_usage=rule("percent", scale=0.01))
    assert read.numbers[SignalName.KV_USAGE] == 0.25


@pytest.mark.parametrize(
    ("figures", "why"),
    [
        (["gone"], Absent.NOT_EMITTED),
        (['blocks{kind="else"}'], Absent.NOT_EMITTED),
        (["nan"], Absent.NO_NUMBER),
        (["info[other]"], Absent.NO_NUMBER),
        (["info[absent]"], Absent.NO_NUMBER),
        (["used / nothing"], Absent.NO_NUMBER),
        (["used / gone"], Absent.NOT_EMITTED),
        (["gone", "/load#running"], Absent.NOT_EMITTED),
        (["/load#running"], Absent.UNREADABLE),
    ],
)
def test_a_signal_that_is_not_there_is_missing_and_says_why(figures: list[str], why: Absent) -> None:
    read = signals(RANKS, running=rule(*figures))
    assert (read.numbers, read.missing[SignalName.RUNNING]) == ({}, why)


def test_a_signal_that_the_family_does_not_tell_is_not_asked_for() -> None:
    assert signals(RANKS).missing == dict.fromkeys(SignalName, Absent.NOT_OFFERED)


def test_a_page_that_could_not_be_read_makes_its_signals_unreadable() -> None:
    assert signals(None, running=rule("running")).missing[SignalName.RUNNING] is Absent.UNREADABLE


def test_a_constant_zero_is_missing_where_zero_means_switched_off() -> None:
    read = signals(RANKS, running=rule("nothing", zero_is_missing=True))
    assert (read.numbers, read.missing[SignalName.RUNNING]) == ({}, Absent.ALWAYS_ZERO)


SLOTS = json.loads('[{"n_ctx": 4096, "is_processing": true}, {"n_ctx": 4096, "is_processing": false}]')
LOADS = json.loads('{"loads": [{"running": 3, "usage": 0.5}, {"running": 4, "usage": 0.25}, {"running": "x"}]}')


@pytest.mark.parametrize(
    ("figure", "by", "number"),
    [
        ("/slots#[]", Combine.SUM, 2.0),
        ("/slots#[].n_ctx", Combine.SUM, 8192.0),
        ("/slots#[].is_processing", Combine.SUM, 1.0),
        ("/loads#loads[].running", Combine.SUM, 7.0),
        ("/loads#loads[].usage", Combine.MAX, 0.5),
    ],
)
def test_a_json_page_is_read_along_its_keys(figure: str, by: Combine, number: float) -> None:
    read = signals(None, json_pages={"/slots": SLOTS, "/loads": LOADS}, running=rule(figure, by=by))
    assert read.numbers == {SignalName.RUNNING: number}


@pytest.mark.parametrize(
    "keys", [("loads", "running"), ("[]",), ("loads", "[]", "absent"), ("loads", "[]", "usage", "x")]
)
def test_keys_that_lead_nowhere_find_nothing(keys: tuple[str, ...]) -> None:
    assert list(values_at(LOADS, keys)) == []


def test_only_pages_that_some_signal_still_needs_are_asked_for() -> None:
    of = family(running=rule("running", "/load#running"), waiting=rule("waiting", "/load#waiting"))
    full, half = Exposition(of.metric_names), Exposition(of.metric_names)
    full.feed(b"running 1\nwaiting 0\n")
    half.feed(b"running 1\n")
    assert unmet_pages(of, full) == ()
    assert unmet_pages(of, half) == ("/load",)
    assert unmet_pages(of, None) == ("/load",)


@pytest.mark.parametrize("page", [b'running 1e308\nrunning{a="b"} 1e308\n', b"running +Inf\n", b"running NaN\n"])
def test_a_number_that_nobody_can_have_counted_is_missing(page: bytes) -> None:
    assert SignalName.RUNNING in signals(page, running=rule("running")).missing


def test_a_product_beyond_all_numbers_is_missing_too() -> None:
    read = signals(b"a 9e15\nb 9e15\n", running=rule("a * b"))
    assert SignalName.RUNNING in read.missing


def test_a_json_number_of_four_hundred_digits_is_missing() -> None:
    pages = {"/page": json.loads('{"n": ' + "9" * 400 + "}")}
    read = signals(None, json_pages=pages, running=rule("/page#n"))
    assert SignalName.RUNNING in read.missing
