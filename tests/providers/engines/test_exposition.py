"""`app.providers.engines.exposition`: the wanted samples of a page, whatever else stands there."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from app.providers.engines.exposition import (
    LINE_MOST_BYTES,
    MOST_BYTES,
    MOST_LINES,
    Exposition,
    ExpositionTooLarge,
    labels_of,
)

PAGE = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
# TYPE vllm:prefix_cache_hits counter
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 768.0
vllm:prefix_cache_hits_created{engine="0",model_name="m"} 1.7e+09
# TYPE vllm:iteration_tokens_total histogram
vllm:iteration_tokens_total_bucket{engine="0",le="1.0",model_name="m"} 1.0
vllm:iteration_tokens_total_sum{engine="0",model_name="m"} 44.0
python_gc_objects_collected_total{generation="0"} 100.0
bare 7
"""


def read(page: bytes, *wanted: str, pieces: int = 1 << 30) -> Exposition:
    exposition = Exposition(wanted)
    for begin in range(0, len(page), pieces):
        exposition.feed(page[begin : begin + pieces])
    exposition.end()
    return exposition


@pytest.mark.parametrize("pieces", [1, 7, 64, 1 << 20])
def test_a_page_is_read_the_same_however_it_was_cut(pieces: int) -> None:
    page = read(PAGE, "vllm:num_requests_running", "vllm:prefix_cache_hits", "bare", pieces=pieces)
    assert sorted(page.samples("vllm:num_requests_running").values()) == [3.0, 4.0]
    assert list(page.samples("vllm:prefix_cache_hits").values()) == [768.0]
    assert page.samples("bare") == {b"": 7.0}
    assert page.broken_lines == 0


def test_what_nobody_wants_is_not_there() -> None:
    page = read(PAGE, "bare")
    assert page.samples("vllm:num_requests_running") == {}
    assert not page.has("vllm:num_requests_running")


def test_a_counter_is_found_with_and_without_its_ending() -> None:
    for wanted in ("vllm:prefix_cache_hits", "vllm:prefix_cache_hits_total"):
        assert list(read(PAGE, wanted).samples(wanted).values()) == [768.0]
        assert list(read(b"vllm:prefix_cache_hits 5\n", wanted).samples(wanted).values()) == [5.0]


def test_of_both_spellings_the_one_that_was_asked_for_stands() -> None:
    assert read(b"hits 1\nhits_total 2\n", "hits").samples("hits") == {b"": 1.0}
    assert read(b"hits 1\nhits_total 2\n", "hits_total").samples("hits_total") == {b"": 2.0}


def test_a_histogram_that_ends_as_a_counter_does_is_not_taken_for_one() -> None:
    assert read(PAGE, "vllm:iteration_tokens").samples("vllm:iteration_tokens") == {}


def test_numbers_that_are_none_are_no_samples_and_yet_no_broken_lines() -> None:
    page = read(b'a{e="0"} NaN\na{e="1"} +Inf\na{e="2"} -Inf\na{e="3"} 2\nb NaN\n', "a", "b")
    assert page.samples("a") == {b'e="3"': 2.0}
    assert page.samples("b") == {}
    assert page.has("b")
    assert page.broken_lines == 0


@pytest.mark.parametrize(
    "line",
    [
        b"a",
        b"a ",
        b"a{",
        b'a{b="c"',
        b'a{b="c} 1',
        b"a one",
        b"a 1_000",
        b"a 1 2 3",
        b'a{b="c"} 1 then',
        b"a{b=c}{d} 1",
        b"a " + b"1" * LINE_MOST_BYTES,
    ],
)
def test_a_broken_line_is_counted_and_the_others_still_read(line: bytes) -> None:
    page = read(line + b"\nb 2\n", "a", "b")
    assert page.broken_lines == 1
    assert page.samples("a") == {}
    assert page.samples("b") == {b"": 2.0}


def test_broken_lines_of_what_nobody_wants_are_nobodys_trouble() -> None:
    page = read(b"\x00\xff garbage }{\nb 2\n", "b")
    assert (page.samples("b"), page.broken_lines) == ({b"": 2.0}, 0)


@pytest.mark.parametrize(
    ("line", "labels", "number"),
    [
        (b"a 1 1395066363000", b"", 1.0),
        (b"a\t2", b"", 2.0),
        (b'a {b="c"} 3', b'b="c"', 3.0),
        (b'a{b="c"}4', b'b="c"', 4.0),
        (b'a{b="c",} 5\r', b'b="c",', 5.0),
        (b'a{b="} 9 {"} 6', b'b="} 9 {"', 6.0),
        (b'a{b="\\"} 9"} 7', b'b="\\"} 9"', 7.0),
        (b'a{b="c"} 8 # {trace="x"} 0.5', b'b="c"', 8.0),
        (b"a{} -1e3", b"", -1000.0),
    ],
)
def test_every_form_of_a_sample_is_read(line: bytes, labels: bytes, number: float) -> None:
    page = read(line + b"\n", "a")
    assert (page.samples("a"), page.broken_lines) == ({labels: number}, 0)


def test_a_sample_told_twice_counts_once() -> None:
    assert read(b'a{r="0"} 1\na{r="0"} 2\n', "a").samples("a") == {b'r="0"': 2.0}


def test_a_last_line_without_its_end_is_read() -> None:
    assert read(b"a 1", "a").samples("a") == {b"": 1.0}


def test_a_page_that_is_too_large_is_refused_whole() -> None:
    page = Exposition(["a"])
    page.feed(b"a 1\n")
    for _ in range(MOST_BYTES // 65536 - 1):
        page.feed(b"#" * 65536)
    with pytest.raises(ExpositionTooLarge):
        page.feed(b"#" * 65536)
    many = Exposition(["a"])
    with pytest.raises(ExpositionTooLarge):
        many.feed(b"\n" * (MOST_LINES + 1))


def test_brands_are_seen_where_they_begin_a_metric() -> None:
    page = Exposition([], brands=("vllm:", "sglang:", "tgi_"))
    page.feed(b"# vllm: in a comment\nmy_sglang:x 1\nvllm:a 1\n")
    page.end()
    assert page.seen_brands == {"vllm:"}


def test_labels_are_unescaped() -> None:
    assert labels_of(b'a="1",b="x\\"y\\\\z\\n", c = "d,e"') == {"a": "1", "b": 'x"y\\z\n', "c": "d,e"}


@given(
    st.lists(
        st.tuples(st.text(max_size=12), st.floats(allow_nan=False, allow_infinity=False)),
        max_size=8,
        unique_by=lambda pair: pair[0],
    )
)
def test_what_the_official_library_writes_is_read_back(samples: list[tuple[str, float]]) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("g", "Help with\nlines and \\ in it.", ["who"], registry=registry)
    counter = Counter("c", "A counter.", ["who"], registry=registry)
    for who, number in samples:
        gauge.labels(who).set(number)
        counter.labels(who).inc(abs(number))
    page = read(generate_latest(registry), "g", "c")
    assert page.broken_lines == 0
    said = {labels_of(labels)["who"]: number for labels, number in page.samples("g").items()}
    assert said == {who.encode("utf-8", "replace").decode(): number for who, number in samples}
    assert sorted(page.samples("c").values()) == sorted(abs(number) for _, number in samples)
    assert all(math.isfinite(number) for number in page.samples("c").values())
