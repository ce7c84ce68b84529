from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from app.telemetry import names
from app.telemetry.exposition import Histogram, histograms, label_text, merge, numbers
from app.telemetry.metrics import Gauges, PrometheusReadings
from app.telemetry.names import Family
from tests.makers import a_receipt, an_attempt

EDGES = (0.1, 1.0, 10.0)


@given(st.lists(st.floats(0, 100), max_size=30))
def test_a_bucket_holds_what_is_at_most_its_edge(values: list[float]) -> None:
    histogram = Histogram(EDGES)
    for value in values:
        histogram.saw(value)
    for at, edge in enumerate(EDGES):
        assert sum(histogram.counts[: at + 1]) == sum(value <= edge for value in values)
    assert sum(histogram.counts) == len(values)


def test_many_times_the_same_value_is_one_observation_for_each() -> None:
    histogram = Histogram(EDGES)
    histogram.saw(0.5, times=99)
    assert histogram.counts == [0, 99, 0, 0]
    assert histogram.sum == 49.5


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_label_value_is_read_back_as_it_was(value: str) -> None:
    family = Family(name="x_total", help="Some.", type="counter", labels=("word",))
    text = "\n".join(numbers(family, [(label_text(family.labels, (value,)), 1)])) + "\n"
    (read,) = text_string_to_metric_families(text)
    assert [(sample.labels, sample.value) for sample in read.samples] == [({"word": value}, 1.0)]


def test_a_histogram_that_saw_nothing_is_left_out() -> None:
    family = Family(name="x_seconds", help="Some.", type="histogram", buckets=EDGES)
    assert list(histograms(family, [("", Histogram(EDGES))])) == [
        "# HELP x_seconds Some.",
        "# TYPE x_seconds histogram",
    ]


def an_exposition(target: str) -> bytes:
    subject = PrometheusReadings(Gauges(policy_digest=lambda: "d" * 16))
    subject.settled(a_receipt(an_attempt(target=target)))
    return subject.text()


def test_merged_processes_keep_every_sample_apart_under_one_head() -> None:
    texts = {"gateway-0": an_exposition("home"), "gateway-1": an_exposition('odd "name"\\\n')}
    merged = merge(texts).decode()
    assert merged.count(f"# TYPE {names.REQUESTS.name} counter") == 1
    before = [sample for text in texts.values() for sample in _samples(text.decode())]
    after = _samples(merged)
    assert len(after) == len(before)
    assert {labels["process"] for _, labels, _ in after} == set(texts)
    without = [(name, {each: labels[each] for each in labels if each != "process"}) for name, labels, _ in after]
    assert sorted(map(repr, without)) == sorted(repr((name, labels)) for name, labels, _ in before)


def test_samples_without_labels_get_the_process_as_their_only_one() -> None:
    assert b'\nbreakeven_spool_depth{process="console"} 0\n' in merge({"console": an_exposition("home")})


def test_families_that_only_one_process_has_are_kept() -> None:
    merged = merge({"a": b"# TYPE x counter\nx 1\n", "b": b"# TYPE y gauge\ny 2\ny_odd 3\n", "c": b""})
    assert merged == b'# TYPE x counter\nx{process="a"} 1\n# TYPE y gauge\ny{process="b"} 2\ny_odd{process="b"} 3\n'


def test_process_names_are_escaped() -> None:
    assert merge({'a"\n': b"x 1\n"}) == b'x{process="a\\"\\n"} 1\n'


@pytest.mark.parametrize("text", [b"<html>\n", b"x\n", b"# NOTE\n", b'x{a="b} 1 2 3\n', b"x 1 2 3\n"])
def test_what_is_no_exposition_names_its_process(text: bytes) -> None:
    with pytest.raises(ValueError, match="gateway-3"):
        merge({"gateway-3": text})


def test_nothing_merged_is_nothing() -> None:
    assert merge({}) == b""


def _samples(text: str) -> list[tuple[str, dict[str, str], float]]:
    return [
        (sample.name, dict(sample.labels), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
