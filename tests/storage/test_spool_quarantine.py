"""`app.storage.spool_quarantine`: put aside whole, counted once, found again by the next process."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.storage.spool_quarantine import Quarantine
from tests.storage.small_disk import fill, small_disk


def test_damaged_bytes_are_kept_as_they_were_and_the_same_damage_counts_once(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    assert quarantine.keep_damaged(b"\xfe\x00", home="h", segment="00000001", at=16)
    assert not quarantine.keep_damaged(b"\xfe\x00", home="h", segment="00000001", at=16)
    assert quarantine.count == 1
    assert (quarantine.path / "damaged-h-00000001-00000016.bin").read_bytes() == b"\xfe\x00"


def test_a_refused_receipt_is_kept_with_its_reason_whatever_its_bytes_are(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    quarantine.keep_rejected(b'{"text":"line\\nbreak"}', home="h", reason="a zero byte")
    quarantine.keep_rejected(b"\xff not text", home="g", reason="not JSON\nat all")
    assert sorted(quarantine.rejected()) == [
        ("a zero byte", '{"text":"line\\nbreak"}'),
        ("not JSON\nat all", "\\xff not text"),
    ]


def test_an_unreadable_segment_is_moved_whole(tmp_path: Path) -> None:
    segment = tmp_path / "00000001.seg"
    segment.write_bytes(b"bytes")
    quarantine = Quarantine(tmp_path)
    quarantine.keep_unreadable(segment, home="h")
    assert not segment.exists()
    assert (quarantine.path / "unreadable-h-00000001.seg").read_bytes() == b"bytes"


def test_the_next_process_counts_what_is_there_and_not_what_was_never_finished(tmp_path: Path) -> None:
    first = Quarantine(tmp_path)
    first.keep_damaged(b"x", home="h", segment="00000001", at=16)
    for _ in range(3):
        first.keep_rejected(b"{}", home="h", reason="refused")
    (first.path / "damaged-h-00000001-00000099.4711.new").write_bytes(b"half")
    assert Quarantine(tmp_path).count == first.count == 4


def test_on_a_full_disk_a_refused_receipt_is_an_error_and_leaves_no_half_line(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_kib=256) as disk:
        quarantine = Quarantine(disk)
        quarantine.keep_rejected(b"{}", home="h", reason="refused")
        filler = fill(disk)
        with pytest.raises(OSError):
            quarantine.keep_rejected(b"x" * 20_000, home="h", reason="refused")
        assert quarantine.count == 1
        filler.unlink()
        quarantine.keep_rejected(b"y", home="h", reason="refused")
        assert [receipt for _, receipt in quarantine.rejected()] == ["{}", "y"]


def test_a_segment_that_is_gone_altogether_counts_as_a_case_too(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    quarantine.keep_unreadable(tmp_path / "00000001.seg", home="h")
    assert quarantine.count == Quarantine(tmp_path).count == 1
