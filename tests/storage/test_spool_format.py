"""`app.storage.spool_format`: what is framed is found again, and damage is seen for what it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.storage.spool_format import (
    HEADER_BYTES,
    RECORD_MAGIC,
    SEGMENT_HEADER,
    Kind,
    Unreadable,
    Whole,
    first_record_at,
    framed,
    record_at,
    scan,
    take_receipts,
)

RECORDS = (
    framed(Kind.INTENT, "first", b'{"n":1}'),
    framed(Kind.CHECKPOINT, "first", b'{"output_tokens":5,"charge":7}'),
    framed(Kind.RECEIPT, "zweite-ß", b""),
    framed(Kind.RECEIPT, "third", '{"text":"日本"}'.encode()),
)
SEGMENT = SEGMENT_HEADER + b"".join(RECORDS)
ENDS = [len(SEGMENT_HEADER) + sum(map(len, RECORDS[: count + 1])) for count in range(len(RECORDS))]


def found_in(segment: bytes) -> tuple[list[bytes], list[Unreadable]]:
    """The whole records of a segment, and the stretches that are none."""
    whole: list[bytes] = []
    unreadable: list[Unreadable] = []
    for found in scan(segment, start=first_record_at(segment)):
        if isinstance(found, Whole):
            whole.append(segment[found.start : found.end])
        else:
            unreadable.append(found)
    return whole, unreadable


def test_a_record_gives_back_its_kind_its_request_and_its_payload() -> None:
    record = framed(Kind.CHECKPOINT, "zweite-ß", b"payload")
    whole = record_at(record, 0)
    assert whole is not None
    assert whole.kind == Kind.CHECKPOINT
    assert whole.request_id(record) == "zweite-ß"
    assert whole.payload(record) == b"payload"
    assert whole.end == len(record)


def test_a_cut_at_any_byte_leaves_every_record_before_it_and_one_torn_tail() -> None:
    for cut in range(len(SEGMENT) + 1):
        whole, unreadable = found_in(SEGMENT[:cut])
        kept = sum(end <= cut for end in ENDS)
        assert whole == list(RECORDS[:kept])
        on_an_edge = cut <= len(SEGMENT_HEADER) or cut in ENDS
        assert [stretch.torn for stretch in unreadable] == ([] if on_an_edge else [True])


@given(
    records=st.lists(st.sampled_from(RECORDS), max_size=8),
    flip=st.none() | st.integers(min_value=0, max_value=500),
    most=st.integers(min_value=1, max_value=4),
)
def test_the_fast_reading_takes_what_the_scan_finds_and_stops_where_it_meets_damage(
    records: list[bytes], flip: int | None, most: int
) -> None:
    damaged = bytearray(b"".join(records))
    if flip is not None and flip < len(damaged):
        damaged[flip] ^= 1
    buffer = bytes(damaged)
    expected: list[bytes] = []
    upto = 0
    for found in scan(buffer):
        if isinstance(found, Unreadable) or len(expected) == most:
            break
        upto = found.end
        if found.kind == Kind.RECEIPT:
            expected.append(found.payload(buffer))
    receipts: list[bytes] = []
    assert take_receipts(buffer, receipts=receipts, most=most) == upto
    assert receipts == expected


def test_any_flipped_bit_is_seen_and_costs_one_record_at_most() -> None:
    for place in range(len(SEGMENT_HEADER), len(SEGMENT)):
        victim = next(number for number, end in enumerate(ENDS) if place < end)
        for bit in range(8):
            damaged = bytearray(SEGMENT)
            damaged[place] ^= 1 << bit
            whole, unreadable = found_in(bytes(damaged))
            assert whole == [record for number, record in enumerate(RECORDS) if number != victim], (place, bit)
            assert [stretch.torn for stretch in unreadable] == [False], (place, bit)
            start = ENDS[victim] - len(RECORDS[victim])
            assert (unreadable[0].start, unreadable[0].end) == (start, ENDS[victim]), (place, bit)


def test_any_flipped_bit_of_the_segment_header_costs_no_record() -> None:
    for place in range(len(SEGMENT_HEADER)):
        for bit in range(8):
            damaged = bytearray(SEGMENT)
            damaged[place] ^= 1 << bit
            whole, unreadable = found_in(bytes(damaged))
            assert whole == list(RECORDS)
            assert unreadable == [Unreadable(0, len(SEGMENT_HEADER), torn=False)]


def test_space_that_was_never_written_is_torn_and_not_damaged() -> None:
    whole, unreadable = found_in(SEGMENT + bytes(4096))
    assert whole == list(RECORDS)
    assert unreadable == [Unreadable(len(SEGMENT), len(SEGMENT) + 4096, torn=True)]


def test_a_page_of_zeros_between_records_is_damage() -> None:
    whole, unreadable = found_in(SEGMENT + bytes(64) + RECORDS[0])
    assert whole == [*RECORDS, RECORDS[0]]
    assert unreadable == [Unreadable(len(SEGMENT), len(SEGMENT) + 64, torn=False)]


def test_a_record_of_a_kind_from_a_later_version_is_set_aside_and_not_skipped() -> None:
    later = framed(9, "first", b"from the future")  # type: ignore[arg-type]
    whole, unreadable = found_in(SEGMENT_HEADER + later + RECORDS[0])
    assert whole == [RECORDS[0]]
    assert len(unreadable) == 1
    assert not unreadable[0].torn


def test_an_empty_file_and_a_file_of_less_than_a_header_hold_nothing_and_are_no_damage() -> None:
    for length in range(len(SEGMENT_HEADER) + 1):
        assert found_in(SEGMENT_HEADER[:length]) == ([], [])


def test_the_marks_of_a_record_never_occur_in_text() -> None:
    with pytest.raises(UnicodeDecodeError):
        RECORD_MAGIC.decode()
    assert HEADER_BYTES == 16


@given(
    pieces=st.lists(
        st.binary(max_size=60) | st.builds(lambda text: framed(Kind.RECEIPT, "r", text.encode()), st.text(max_size=30)),
        max_size=8,
    )
)
def test_any_bytes_are_read_without_a_gap_an_overlap_or_an_error(pieces: list[bytes]) -> None:
    buffer = b"".join(pieces)
    at = 0
    for found in scan(buffer):
        assert found.start == at
        assert found.end > found.start
        at = found.end
    assert at == len(buffer)


@given(noise=st.binary(max_size=40), kept=st.binary(max_size=40))
def test_a_record_after_any_noise_is_found(noise: bytes, kept: bytes) -> None:
    record = framed(Kind.RECEIPT, "r", kept)
    buffer = noise + record
    assert Whole(Kind.RECEIPT, len(noise), len(noise) + HEADER_BYTES + 1, len(buffer)) in list(scan(buffer))
