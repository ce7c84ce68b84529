"""Events are cut from a stream the same way, however it was segmented."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.providers.sse import EVENT_MOST_BYTES, EventSplitter, EventTooLarge, payload

LINES = st.sampled_from(
    [
        b"data: {}",
        b"data:x",
        b"data",
        b": comment",
        b"event: error",
        b"id: 1",
        b"retry: 5",
        b"data: \xc3\xa4\xe2\x82\xac",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    raw = b"\xef\xbb\xbf" if draw(st.booleans()) else b""
    for _ in range(draw(st.integers(0, 6))):
        end = draw(ENDS)
        raw += b"".join(draw(LINES) + end for _ in range(draw(st.integers(0, 3)))) + end
    return raw + draw(st.sampled_from([b"", b"data: half", b"\r", b"\n"]))


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(raw), *(place % (len(raw) + 1) for place in places)})
    return [raw[begin:end] for begin, end in pairwise(edges)]


def split(segments: list[bytes]) -> tuple[list[bytes], bytes]:
    splitter = EventSplitter()
    events = [event for segment in segments for event in splitter.feed(segment)]
    return events, splitter.rest()


@given(streams(), st.lists(st.integers(0, 1000), max_size=12))
def test_any_segmentation_gives_the_same_events(raw: bytes, places: list[int]) -> None:
    at_once = split([raw]) if raw else ([], b"")
    assert split(cut(raw, places)) == at_once
    assert split([raw[at : at + 1] for at in range(len(raw))]) == at_once


@given(streams(), st.lists(st.integers(0, 1000), max_size=12))
def test_no_byte_is_lost_but_a_leading_byte_order_mark(raw: bytes, places: list[int]) -> None:
    events, rest = split(cut(raw, places))
    assert b"".join(events) + rest in {raw, raw.removeprefix(b"\xef\xbb\xbf")}
    if len(raw) > 3:
        assert not b"".join([*events, rest]).startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [b"data: a\n\n", b"data: b\n\n"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"data: a\r\n\r\n", b"data: b\r\n\r\n"]),
        (b"data: a\r\rdata: b\r\rx", [b"data: a\r\r", b"data: b\r\r"]),
        (b"data: a\n\r\ndata: b\r\n\n", [b"data: a\n\r\n", b"data: b\r\n\n"]),
        (b"data: a\ndata: b\n\n", [b"data: a\ndata: b\n\n"]),
        (b": keep-alive\n\n", [b": keep-alive\n\n"]),
    ],
)
def test_an_event_ends_with_a_blank_line_of_any_kind(raw: bytes, events: list[bytes]) -> None:
    assert split([raw])[0] == events


def test_a_read_of_one_event_passes_uncopied() -> None:
    splitter = EventSplitter()
    splitter.feed(b"data: first\n\n")
    event = b"data: {}\n\n"
    assert splitter.feed(event)[0] is event


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (b"data: {}\n\n", b"{}"),
        (b"data:{}\n\n", b"{}"),
        (b"data:  {}\n\n", b" {}"),
        (b"data\n\n", b""),
        (b"data: {\ndata: }\n\n", b"{\n}"),
        (b"event: error\r\ndata: {}\r\nid: 1\r\n\r\n", b"{}"),
        (b"database: no\n\n", None),
        (b": data: no\n\n", None),
        (b"\n\n", None),
    ],
)
def test_the_payload_is_the_data_alone(event: bytes, said: bytes | None) -> None:
    assert payload(event) == said


@pytest.mark.parametrize("ending", [b"", b"\n\n"])
def test_an_event_without_end_is_given_up(ending: bytes) -> None:
    splitter = EventSplitter()
    with pytest.raises(EventTooLarge):
        splitter.feed(b"data: " + b"x" * EVENT_MOST_BYTES + ending)


def test_a_large_event_in_small_reads_takes_no_quadratic_time() -> None:
    """A search from the beginning at every read would look at 30 GB here."""
    splitter = EventSplitter()
    raw = b"data: " + b"x" * (EVENT_MOST_BYTES - 100) + b"\n\n"
    events = [event for at in range(0, len(raw), 16) for event in splitter.feed(raw[at : at + 16])]
    assert events == [raw]
