"""`app.storage.spool_reserve`: the room is really there, and really given back."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.storage.spool_reserve import Reserve
from tests.storage.small_disk import fill, small_disk


def test_a_reserve_holds_blocks_and_not_just_a_length(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", size_bytes=1 << 20)
    reserve.hold()
    reserve.hold()
    assert reserve.held
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 1 << 20


def test_releasing_takes_the_file_away_and_says_whether_there_was_one(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", size_bytes=4096)
    reserve.hold()
    assert reserve.release()
    assert not reserve.release()
    assert list(tmp_path.iterdir()) == []


def test_a_reserve_of_nothing_is_always_held_and_frees_nothing(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", size_bytes=0)
    reserve.hold()
    assert reserve.held
    assert not reserve.release()


def test_on_a_full_disk_the_reserve_is_what_can_still_be_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_kib=1024) as disk:
        reserve = Reserve(disk / "reserve", size_bytes=1 << 18)
        reserve.hold()
        fill(disk)
        with pytest.raises(OSError, match="No space left"):
            (disk / "receipt").write_bytes(bytes(1 << 16))
        assert reserve.release()
        (disk / "receipt").write_bytes(bytes(1 << 16))


def test_a_reserve_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_kib=256) as disk:
        reserve = Reserve(disk / "reserve", size_bytes=1 << 20)
        with pytest.raises(OSError, match="No space left"):
            reserve.hold()
        assert not reserve.held
        assert list(disk.iterdir()) == []
