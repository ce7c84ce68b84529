from __future__ import annotations

import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.metering.meter import USAGE_ESTIMATED, WHOLE_ENVELOPE_BYTES, Meter
from app.domain.usage import (
    USAGE_NEGATIVE,
    USAGE_OVER_CAP,
    USAGE_PART_OVER_WHOLE,
    USAGE_SUSPECT,
    Usage,
    UsageLimits,
    UsageSource,
)


def test_ttft_runs_from_dispatch_to_the_first_content_and_tpot_over_the_rest() -> None:
    meter = Meter(started_s=10.0, prompt_estimate=5)
    for at_s in (10.5, 10.6, 10.7):
        meter.saw_content(events=1, content_bytes=4, at_s=at_s)
    meter.saw_usage(Usage(prompt=7, output=5))
    read = meter.read(at_s=11.0)
    assert read.ttft_s == pytest.approx(0.5)
    assert read.tpot_s == pytest.approx(0.2 / 4)
    assert read.duration_s == pytest.approx(1.0)
    assert read.usage_source is UsageSource.PROVIDER_FINAL


def test_one_token_has_no_time_per_output_token() -> None:
    meter = Meter(started_s=0, prompt_estimate=5)
    meter.saw_content(events=1, content_bytes=4, at_s=1)
    meter.saw_usage(Usage(prompt=7, output=1))
    assert meter.read(at_s=2).tpot_s is None


def test_an_answer_without_usage_is_estimated_and_flagged_and_not_free() -> None:
    meter = Meter(started_s=0, prompt_estimate=50)
    meter.saw_content(events=3, content_bytes=40, at_s=1)
    read = meter.read(at_s=2)
    assert read.usage == Usage(prompt=50, output=10)
    assert read.usage_source is UsageSource.GATEWAY_ESTIMATE
    assert read.flags == (USAGE_ESTIMATED,)


def test_an_attempt_that_never_worked_used_nothing() -> None:
    read = Meter(started_s=0, prompt_estimate=50).read(at_s=1, worked=False)
    assert read.usage == Usage(prompt=0, output=0)
    assert read.usage_source is UsageSource.NOTHING_SENT


def test_impossible_usage_is_clamped_and_flagged() -> None:
    meter = Meter(started_s=0, prompt_estimate=50)
    meter.saw_usage(Usage(prompt=10, output=-3, cached=99))
    read = meter.read(at_s=1)
    assert read.usage == Usage(prompt=10, output=0, cached=10)
    assert read.flags == (USAGE_SUSPECT, USAGE_NEGATIVE, USAGE_PART_OVER_WHOLE)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 100)), max_size=50))
def test_an_estimate_never_counts_fewer_tokens_than_events(passed: list[tuple[int, int]]) -> None:
    meter = Meter(started_s=0, prompt_estimate=1)
    for at_s, (events, size) in enumerate(passed):
        meter.saw_content(events=events, content_bytes=size, at_s=at_s)
    assert meter.estimated_output() >= meter.content_events == sum(events for events, _ in passed)


def test_a_report_before_the_end_counts_as_partial_and_never_below_what_was_delivered() -> None:
    meter = Meter(started_s=0.0, prompt_estimate=9)
    meter.saw_content(events=3, content_bytes=12, at_s=0.1)
    meter.saw_usage(Usage(prompt=11, output=2), is_final=False)
    meter.saw_content(events=4, content_bytes=16, at_s=0.2)
    read = meter.read(at_s=0.3)
    assert (read.usage, read.usage_source) == (Usage(prompt=11, output=7), UsageSource.PROVIDER_PARTIAL)
    assert read.flags == (USAGE_ESTIMATED,)
    meter.saw_usage(Usage(prompt=11, output=8))
    assert meter.read(at_s=0.3).usage_source is UsageSource.PROVIDER_FINAL


def test_a_partial_report_is_added_to_only_by_what_passed_after_it() -> None:
    meter = Meter(started_s=0.0, prompt_estimate=9)
    meter.saw_content(events=2, content_bytes=4000, at_s=0.1)
    meter.saw_usage(Usage(prompt=11, output=300), is_final=False)
    meter.saw_content(events=1, content_bytes=40, at_s=0.2)
    assert meter.read(at_s=0.3).usage == Usage(prompt=11, output=310)


def test_counts_larger_than_possible_are_clamped_reported_or_estimated() -> None:
    limits = UsageLimits(prompt_most=40, output_most=20)
    meter = Meter(started_s=0.0, prompt_estimate=50, limits=limits)
    meter.saw_content(events=2, content_bytes=400, at_s=0.1)
    assert meter.read(at_s=0.3).usage == Usage(prompt=40, output=20)
    meter.saw_usage(Usage(prompt=30, output=21))
    read = meter.read(at_s=0.3)
    assert (read.usage, read.flags) == (Usage(prompt=30, output=20), (USAGE_SUSPECT, USAGE_OVER_CAP))


def test_an_estimate_is_never_below_what_was_delivered_even_over_the_cap() -> None:
    meter = Meter(started_s=0.0, prompt_estimate=5, limits=UsageLimits(output_most=2))
    meter.saw_content(events=3, content_bytes=100, at_s=0.1)
    assert meter.read(at_s=0.3).usage == Usage(prompt=5, output=3)


def test_what_is_assumed_of_an_unseen_answer_gives_way_to_anything_that_was_seen() -> None:
    meter = Meter(started_s=0.0, prompt_estimate=5)
    unseen = (64, UsageSource.HOLD)
    read = meter.read(at_s=1, unseen=unseen)
    assert (read.usage, read.usage_source, read.flags) == (
        Usage(prompt=5, output=64),
        UsageSource.HOLD,
        ("usage_estimated",),
    )
    assert meter.read(at_s=1, worked=False, unseen=unseen).usage_source is UsageSource.NOTHING_SENT
    meter.saw_content(events=3, content_bytes=4, at_s=1)
    assert meter.read(at_s=1, unseen=unseen).usage_source is UsageSource.GATEWAY_ESTIMATE


@pytest.mark.parametrize(
    ("came_bytes", "output", "source"),
    [
        (WHOLE_ENVELOPE_BYTES + 40, 64, UsageSource.HOLD),
        (WHOLE_ENVELOPE_BYTES + 400, 100, UsageSource.GATEWAY_ESTIMATE),
    ],
)
def test_half_of_a_whole_answer_counts_only_where_it_is_more_than_what_is_assumed(
    came_bytes: int, output: int, source: UsageSource
) -> None:
    meter = Meter(started_s=0.0, prompt_estimate=5)
    meter.saw_whole(body_bytes=came_bytes)
    read = meter.read(at_s=1, unseen=(64, UsageSource.HOLD))
    assert (read.usage.output, read.usage_source) == (output, source)


def test_what_of_half_a_whole_answer_is_known_to_be_text_counts_however_little_came() -> None:
    meter = Meter(started_s=0.0, prompt_estimate=5)
    meter.saw_whole(body_bytes=WHOLE_ENVELOPE_BYTES - 100, text_bytes=40)
    assert meter.read(at_s=1).usage.output == 10
    meter = Meter(started_s=0.0, prompt_estimate=5)
    meter.saw_whole(body_bytes=WHOLE_ENVELOPE_BYTES + 400, text_bytes=40)
    assert meter.read(at_s=1).usage.output == 100


def test_whoever_waits_for_the_first_content_is_told_once() -> None:
    meter, told = Meter(started_s=0.0, prompt_estimate=5), list[float]()
    meter.tell_first(lambda: told.append(meter.last_content_s))
    for at_s in (1.0, 2.0):
        meter.saw_content(events=1, content_bytes=4, at_s=at_s)
    assert told == [1.0]


def test_a_meter_lets_go_of_who_was_told_so_that_the_two_hold_no_cycle() -> None:
    class Listener:
        """Called once."""

        def __call__(self) -> None:
            """Nothing to do."""

    meter, listener = Meter(started_s=0.0, prompt_estimate=5), Listener()
    gone = weakref.ref(listener)
    meter.tell_first(listener)
    del listener
    assert gone() is not None
    meter.saw_content(events=1, content_bytes=4, at_s=1.0)
    assert gone() is None
