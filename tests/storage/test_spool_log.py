"""`app.storage.spool_log`: what is written where, what is carried forward, and when a segment may go."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.storage.spool_adoption import Part, segment_shipped
from app.storage.spool_format import Kind, Whole, first_record_at, framed, scan
from app.storage.spool_home import make_home
from app.storage.spool_log import Log
from app.storage.spool_segment import Segment
from app.storage.spool_tail import Tail
from tests.storage.small_disk import fill, small_disk

PAYLOAD = b"x" * 300


@contextlib.contextmanager
def a_log(
    spool: Path,
    *,
    segment_bytes: int = 1 << 20,
    reserve_bytes: int = 0,
    troubles: list[str] | None = None,
    tail: Tail | None = None,
) -> Iterator[Log]:
    on_trouble = ([] if troubles is None else troubles).append
    home = make_home(spool, at_us=1)
    log = Log(home, segment_bytes=segment_bytes, reserve_bytes=reserve_bytes, on_trouble=on_trouble, tail=tail)
    log.reserve.hold()
    try:
        yield log
    finally:
        log.close()


def intend(log: Log, request_id: str, payload: bytes = PAYLOAD) -> None:
    log.intend(request_id, framed(Kind.INTENT, request_id, payload))


def settle(log: Log, request_id: str, payload: bytes = PAYLOAD) -> None:
    log.settle(request_id, framed(Kind.RECEIPT, request_id, payload))


def ship_all(log: Log) -> None:
    for segment in tuple(log.segments):
        while segment.unshipped:
            batch = segment.receipts_from(segment.shipped_to, most=1000)
            segment_shipped(Part(batch.receipts, segment, segment.shipped_to, batch.upto))
    log.drop_shipped()


def kept(log: Log) -> list[tuple[str, str, bytes]]:
    """Kind, request and payload of every record that stands in the files."""
    found: list[tuple[str, str, bytes]] = []
    for segment in log.segments:
        content = segment.path.read_bytes()
        for record in scan(content, start=first_record_at(content)):
            assert isinstance(record, Whole)
            found.append((Kind(record.kind).name, record.request_id(content), record.payload(content)))
    return found


def test_a_record_that_does_not_fit_begins_a_segment_and_every_byte_is_counted(tmp_path: Path) -> None:
    with a_log(tmp_path, segment_bytes=800) as log:
        for number in range(5):
            settle(log, f"r{number}")
        assert len(log.segments) == 3
        assert log.size_bytes == sum(segment.path.stat().st_size for segment in log.segments)
        assert log.unshipped == 5


def test_a_record_larger_than_a_segment_is_kept_in_one_of_its_own(tmp_path: Path) -> None:
    with a_log(tmp_path, segment_bytes=1000) as log:
        settle(log, "small")
        settle(log, "large", b"y" * 5000)
        settle(log, "next")
        assert [request_id for _, request_id, _ in kept(log)] == ["small", "large", "next"]
        assert len(log.segments) == 3


def test_segments_go_oldest_first_and_only_when_all_in_them_is_shipped(tmp_path: Path) -> None:
    with a_log(tmp_path, segment_bytes=800) as log:
        for number in range(6):
            settle(log, f"r{number}")
        first, second = log.segments[0], log.segments[1]
        batch = second.receipts_from(second.shipped_to, most=9)
        segment_shipped(Part(batch.receipts, second, second.shipped_to, batch.upto))
        log.drop_shipped()
        assert first.path.exists()
        assert second.path.exists()
        ship_all(log)
        assert [segment.path.exists() for segment in (first, second)] == [False, False]
        assert len(log.segments) == 1


def test_an_open_intent_and_its_last_checkpoint_move_on_when_their_segment_goes(tmp_path: Path) -> None:
    with a_log(tmp_path, segment_bytes=2000) as log:
        intend(log, "long", b"the intent")
        log.checkpoint("long", framed(Kind.CHECKPOINT, "long", b"first"))
        log.checkpoint("long", framed(Kind.CHECKPOINT, "long", b"last"))
        for number in range(9):
            settle(log, f"r{number}")
        ship_all(log)
        assert len(log.segments) == 1
        carried = [record for record in kept(log) if record[1] == "long"]
        assert carried == [("INTENT", "long", b"the intent"), ("CHECKPOINT", "long", b"last")]
        settle(log, "long")
        assert log.open == {}


def test_a_segment_with_too_many_open_intents_to_carry_stays_until_they_are_settled(tmp_path: Path) -> None:
    with a_log(tmp_path, segment_bytes=2000) as log:
        for number in range(4):
            intend(log, f"long{number}")
        for number in range(9):
            settle(log, f"r{number}")
        oldest = log.segments[0]
        ship_all(log)
        assert oldest.path.exists()
        for number in range(4):
            settle(log, f"long{number}")
        ship_all(log)
        assert not oldest.path.exists()


def test_a_second_intent_of_a_request_replaces_the_first_and_forgets_its_checkpoint(tmp_path: Path) -> None:
    with a_log(tmp_path) as log:
        intend(log, "r", b"first attempt")
        log.checkpoint("r", framed(Kind.CHECKPOINT, "r", b"of the first"))
        intend(log, "r", b"second attempt")
        assert log.open["r"].checkpoint is None
        assert len(log.open) == 1


def test_an_idle_log_gives_its_space_back(tmp_path: Path) -> None:
    with a_log(tmp_path, segment_bytes=16 << 20) as log:
        for number in range(4000):
            settle(log, f"r{number}")
        assert log.size_bytes > 1 << 20
        ship_all(log)
        assert log.size_bytes < 100


def test_a_log_with_nothing_open_and_all_shipped_leaves_no_trace_when_it_closes(tmp_path: Path) -> None:
    with a_log(tmp_path) as log:
        settle(log, "r")
        ship_all(log)
    assert list((tmp_path / "homes").iterdir()) == []


@pytest.mark.parametrize("what", [intend, settle])
def test_a_log_that_still_owes_something_stays_for_the_next_process(tmp_path: Path, what: object) -> None:
    with a_log(tmp_path) as log:
        what(log, "r")  # type: ignore[operator]
    (home,) = (tmp_path / "homes").iterdir()
    assert (home / "00000001.seg").exists()


def test_old_segments_hold_no_descriptors(tmp_path: Path) -> None:
    with a_log(tmp_path, segment_bytes=1000) as log:
        for number in range(100):
            settle(log, f"r{number}")
        for segment in list(log.segments)[:-1]:
            with pytest.raises(AssertionError):
                segment.fileno()


def test_on_a_full_disk_an_intent_is_refused_but_a_dispatched_request_is_settled_from_the_reserve(
    tmp_path: Path,
) -> None:
    troubles: list[str] = []
    with (
        small_disk(tmp_path / "disk", size_kib=1024) as disk,
        a_log(disk, reserve_bytes=1 << 18, troubles=troubles) as log,
    ):
        intend(log, "dispatched")
        fill(disk)
        long = b"y" * 8192
        with pytest.raises(OSError, match="No space left"):
            intend(log, "new", long)
        with pytest.raises(OSError, match="No space left"):
            settle(log, "never dispatched", long)
        reserve = log.reserve
        assert reserve.held
        settle(log, "dispatched", long)
        assert not log.reserve.held
        assert len(troubles) == 1
        assert kept(log) == [("INTENT", "dispatched", PAYLOAD), ("RECEIPT", "dispatched", long)]


def test_a_receipt_that_finds_no_room_even_so_is_owed_and_paid_when_there_is_room_again(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_kib=1024) as disk, a_log(disk) as log:
        intend(log, "dispatched")
        filler = fill(disk)
        long = b"y" * 8192
        with pytest.raises(OSError, match="No space left"):
            settle(log, "dispatched", long)
        assert "dispatched" in log.open
        with pytest.raises(OSError, match="No space left"):
            list(log.pay_owed())
        filler.unlink()
        assert [segment for segment, _ in log.pay_owed()] == [log.current]
        assert not log.owed
        assert not log.open
        assert kept(log)[-1] == ("RECEIPT", "dispatched", long)


def test_a_retired_segment_is_not_written_again_and_its_open_intents_stand_in_the_next(tmp_path: Path) -> None:
    with a_log(tmp_path) as log:
        intend(log, "open")
        retired = log.current
        end = retired.end
        log.retire([retired])
        settle(log, "open")
        settle(log, "other")
        assert retired.path.stat().st_size == end
        assert log.current is not retired
        assert [record[:2] for record in kept(log)] == [
            ("INTENT", "open"),
            ("INTENT", "open"),
            ("RECEIPT", "open"),
            ("RECEIPT", "other"),
        ]


def test_room_that_the_tail_gave_is_not_used_behind_a_record_that_could_not_be_cut_off(tmp_path: Path) -> None:
    tail = Tail(tmp_path, "another", kept_s=60, most_bytes=1 << 20)
    shipped = Segment.begin(tmp_path / "00000001.seg")
    shipped.append(framed(Kind.RECEIPT, "shipped", PAYLOAD))
    tail.put_by(shipped, at_s=0)
    with a_log(tmp_path, tail=tail) as log:
        settle(log, "before")
        first = log.current
        # It has no room for any byte, and cannot be made shorter.
        with Path("/dev/full").open("r+b", buffering=0) as full:
            os.dup2(full.fileno(), first.fileno())
        settle(log, "after")
        assert first.retired
        assert [record[:2] for record in kept(log)] == [("RECEIPT", "before"), ("RECEIPT", "after")]
        assert [segment.unshipped for segment in log.segments] == [1, 1]
        assert not tail.give_room(), "it has given all it had"


def test_empty_segments_do_not_pile_up_when_one_after_the_other_is_retired(tmp_path: Path) -> None:
    with a_log(tmp_path) as log:
        settle(log, "kept back")
        for _ in range(10):
            log.retire([log.current])
        assert len(log.segments) == 2
