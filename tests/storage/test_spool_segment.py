"""`app.storage.spool_segment`: a record is written whole or not at all, and is read back by its place."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from app.storage.spool_format import SEGMENT_HEADER, Kind, Unreadable, framed
from app.storage.spool_segment import Segment
from tests.storage.small_disk import fill, small_disk

RECEIPT = framed(Kind.RECEIPT, "r", b"a receipt")
INTENT = framed(Kind.INTENT, "r", b"an intent")


def begun(tmp_path: Path) -> Segment:
    return Segment.begin(tmp_path / "00000001.seg")


def test_a_segment_begins_with_its_header_and_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    segment = begun(tmp_path)
    assert segment.path.read_bytes() == SEGMENT_HEADER
    assert segment.path.stat().st_mode & 0o777 == 0o600


def test_a_segment_that_exists_is_not_begun_again(tmp_path: Path) -> None:
    begun(tmp_path)
    with pytest.raises(FileExistsError):
        begun(tmp_path)


def test_a_record_is_read_back_where_it_was_put_resting_or_not(tmp_path: Path) -> None:
    segment = begun(tmp_path)
    places = [segment.append(record) for record in (INTENT, RECEIPT)]
    assert segment.read(places[1], len(RECEIPT)) == RECEIPT
    segment.rest()
    assert segment.read(places[0], len(INTENT)) == INTENT
    assert segment.end == segment.path.stat().st_size


def test_reading_gives_only_receipts_at_most_so_many_and_says_how_far_it_came(tmp_path: Path) -> None:
    segment = begun(tmp_path)
    for record in (INTENT, RECEIPT, RECEIPT, INTENT, RECEIPT):
        segment.append(record)
    first = segment.receipts_from(segment.shipped_to, most=2)
    assert first.receipts == [b"a receipt"] * 2
    assert not first.finished
    rest = segment.receipts_from(first.upto, most=2)
    assert rest.receipts == [b"a receipt"]
    assert rest.finished
    assert rest.upto == segment.end


def test_a_record_longer_than_one_reading_is_read_all_the_same(tmp_path: Path) -> None:
    segment = begun(tmp_path)
    payload = b"x" * (3 << 18)
    segment.append(RECEIPT)
    segment.append(framed(Kind.RECEIPT, "r", payload))
    segment.append(RECEIPT)
    found: list[bytes] = []
    at = segment.shipped_to
    while True:
        batch = segment.receipts_from(at, most=10)
        found += batch.receipts
        at = batch.upto
        if batch.finished:
            break
    assert found == [b"a receipt", payload, b"a receipt"]


def test_damage_longer_than_one_reading_is_told_once_and_in_one_piece(tmp_path: Path) -> None:
    segment = begun(tmp_path)
    start = segment.append(b"\xfe" * (3 << 18))
    segment.append(RECEIPT)
    batch = segment.receipts_from(segment.shipped_to, most=10)
    assert batch.receipts == [b"a receipt"]
    assert batch.unreadable == [Unreadable(start, start + (3 << 18), torn=False)]


def test_a_file_that_became_shorter_than_it_was_is_read_to_its_new_end(tmp_path: Path) -> None:
    segment = begun(tmp_path)
    for record in (RECEIPT, RECEIPT):
        segment.append(record)
    with segment.path.open("r+b") as file:
        file.truncate(segment.end - 5)
    batch = segment.receipts_from(segment.shipped_to, most=10)
    assert batch.receipts == [b"a receipt"]
    assert segment.receipts_from(batch.upto, most=10).finished


def test_what_is_shipped_is_remembered_beside_the_file(tmp_path: Path) -> None:
    segment = begun(tmp_path)
    end = segment.append(RECEIPT) + len(RECEIPT)
    segment.unshipped = 1
    segment.shipped(upto=end, receipts=1)
    assert segment.unshipped == 0
    assert Segment.left_behind(segment.path, end=segment.end).shipped_to == end


@pytest.mark.parametrize("beside", ["", "nonsense", "-7", "99999999999"])
def test_a_memory_that_makes_no_sense_never_points_outside_the_segment(tmp_path: Path, beside: str) -> None:
    segment = begun(tmp_path)
    segment.append(RECEIPT)
    segment.path.with_suffix(".shipped").write_text(beside)
    assert len(SEGMENT_HEADER) <= Segment.left_behind(segment.path, end=segment.end).shipped_to <= segment.end


def test_a_deleted_segment_leaves_nothing(tmp_path: Path) -> None:
    segment = begun(tmp_path)
    segment.shipped(upto=segment.end, receipts=0)
    segment.delete()
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_finds_the_disk_full_leaves_nothing_of_itself(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_kib=256) as disk:
        segment = begun(disk)
        segment.append(RECEIPT)
        filler = fill(disk)
        long = framed(Kind.RECEIPT, "r", b"x" * 9000)
        end = segment.end
        with pytest.raises(OSError) as caught:
            segment.append(long)
        assert caught.value.errno == errno.ENOSPC
        assert segment.end == segment.path.stat().st_size == end
        assert not segment.retired
        filler.unlink()
        segment.append(long)
        assert segment.receipts_from(segment.shipped_to, most=10).receipts == [b"a receipt", b"x" * 9000]
        segment.rest()


_OVER_THE_LIMIT = """
import resource, sys
from pathlib import Path
from app.storage.spool_segment import Segment

segment = Segment.begin(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
segment.append(b"a" * 700)
try:
    segment.append(b"b" * 700)
except OSError as fault:
    print(fault.errno, segment.end, segment.path.stat().st_size, segment.retired)
segment.append(b"c" * 200)
"""


def test_a_record_that_only_partly_fits_under_the_file_size_limit_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "00000001.seg"
    command = [sys.executable, "-c", _OVER_THE_LIMIT, str(path)]
    child = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert child.stdout.split() == [str(errno.EFBIG), "716", "716", "False"], child.stderr
    assert path.read_bytes() == SEGMENT_HEADER + b"a" * 700 + b"c" * 200
