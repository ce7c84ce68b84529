from __future__ import annotations

import pytest

from app.api.labels import MOST_LABEL_BYTES, MOST_TAGS, read_labels
from app.api.wire.openai import NO_LABELS
from app.domain.errors import BadRequest


def test_no_labels_cost_nothing() -> None:
    assert read_labels([(b"x-stainless-lang", b"python")]) is NO_LABELS


def test_labels_are_read() -> None:
    labels = read_labels(
        [
            (b"x-breakeven-data-class", b"restricted"),
            (b"x-breakeven-deadline-s", b"12.5"),
            (b"x-breakeven-priority", b"-3"),
            (b"x-breakeven-tags", b"a, b,,c"),
            (b"x-request-id", b"mine"),
        ]
    )
    assert (labels.data_class, labels.deadline_s, labels.priority) == ("restricted", 12.5, -3)
    assert labels.tags == ("a", "b", "c")
    assert labels.caller_label == "mine"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-breakeven-data-class", b"x" * (MOST_LABEL_BYTES + 1)),
        (b"x-breakeven-data-class", b"a\x00b"),
        (b"x-breakeven-deadline-s", b"soon"),
        (b"x-breakeven-deadline-s", b"nan"),
        (b"x-breakeven-priority", b"1e9"),
        (b"x-breakeven-priority", b"1.5"),
        (b"x-breakeven-tags", b",".join(b"t%d" % n for n in range(MOST_TAGS + 1))),
    ],
)
def test_a_label_out_of_bounds_is_refused_by_name(name: bytes, value: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        read_labels([(name, value)])
    assert caught.value.param == name.decode()


def test_a_callers_own_request_id_is_cut_and_cleaned_and_never_a_reason_to_refuse() -> None:
    label = read_labels([(b"x-request-id", b"a\r\nb" + b"x" * 500)]).caller_label
    assert label is not None
    assert len(label) == MOST_LABEL_BYTES
    assert label.startswith("a??b")


def test_a_conversation_is_named_in_a_header() -> None:
    assert read_labels([(b"x-breakeven-session", b"thread 7")]).session == "thread 7"
    with pytest.raises(BadRequest):
        read_labels([(b"x-breakeven-session", b"x" * (MOST_LABEL_BYTES + 1))])
