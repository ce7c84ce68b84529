"""`app.storage.spool_home`: a home has one owner at a time, and is nobody's once that process is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.storage.spool_home import HOMES, bytes_elsewhere, make_home, take_orphans


def test_two_homes_made_at_the_same_moment_are_two(tmp_path: Path) -> None:
    first, second = make_home(tmp_path, at_us=7), make_home(tmp_path, at_us=7)
    assert first.path != second.path
    assert first.path.stat().st_mode & 0o777 == 0o700


def test_a_home_whose_owner_lives_is_not_taken(tmp_path: Path) -> None:
    make_home(tmp_path, at_us=7)
    assert take_orphans(tmp_path, known=()).homes == []


def test_a_home_that_was_left_is_taken_by_one_only_and_the_oldest_comes_first(tmp_path: Path) -> None:
    homes = [make_home(tmp_path, at_us=moment) for moment in (1, 20, 3)]
    for home in homes:
        home.leave()
    assert [home.path for home in take_orphans(tmp_path, known=()).homes] == [
        homes[0].path,
        homes[2].path,
        homes[1].path,
    ]
    assert take_orphans(tmp_path, known=()).homes == []


def test_many_who_look_at_once_share_the_orphans_without_a_double(tmp_path: Path) -> None:
    for moment in range(20):
        make_home(tmp_path, at_us=moment).leave()
    with ThreadPoolExecutor(8) as pool:
        taken = [
            home.name for part in pool.map(lambda _: take_orphans(tmp_path, known=()).homes, range(8)) for home in part
        ]
    assert len(taken) == 20
    assert len(set(taken)) == 20


def test_a_removed_home_is_gone_and_one_with_a_segment_in_it_stays(tmp_path: Path) -> None:
    empty, full = make_home(tmp_path, at_us=1), make_home(tmp_path, at_us=2)
    (empty.path / "00000001.shipped").write_text("16")
    full.segment_path(1).write_bytes(b"x")
    (full.path / "00000001.shipped").write_text("16")
    empty.remove()
    full.remove()
    assert [path.name for path in (tmp_path / HOMES).iterdir()] == [full.name]
    assert (full.path / "00000001.shipped").exists()
    assert [home.name for home in take_orphans(tmp_path, known=()).homes] == [full.name]


def test_a_directory_that_lost_its_lock_is_taken_as_an_orphan(tmp_path: Path) -> None:
    home = make_home(tmp_path, at_us=1)
    home.leave()
    (home.path / "owner.lock").unlink()
    assert [orphan.name for orphan in take_orphans(tmp_path, known=()).homes] == [home.name]


def test_a_home_that_this_user_may_not_open_is_named_and_the_others_are_taken(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("nothing is forbidden to root")
    forbidden, free = make_home(tmp_path, at_us=1), make_home(tmp_path, at_us=2)
    forbidden.leave()
    free.leave()
    (forbidden.path / "owner.lock").chmod(0)
    taken = take_orphans(tmp_path, known=())
    assert [home.path for home in taken.homes] == [free.path]
    assert list(taken.forbidden) == [forbidden.path]


def test_a_stray_file_among_the_homes_disturbs_nobody(tmp_path: Path) -> None:
    make_home(tmp_path, at_us=1)
    (tmp_path / HOMES / "lost+found").write_text("stray")
    assert take_orphans(tmp_path, known=()).homes == []
    assert bytes_elsewhere(tmp_path, known=()) == 0


def test_only_the_segments_of_others_count_as_elsewhere(tmp_path: Path) -> None:
    ours, theirs = make_home(tmp_path, at_us=1), make_home(tmp_path, at_us=2)
    ours.segment_path(1).write_bytes(bytes(100))
    theirs.segment_path(1).write_bytes(bytes(30))
    theirs.segment_path(2).write_bytes(bytes(4))
    (theirs.path / "reserve").write_bytes(bytes(1000))
    assert bytes_elsewhere(tmp_path, known={ours.name}) == 34


_LIVES_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from app.storage.spool_home import make_home

home = make_home(Path(sys.argv[1]), at_us=1)
print(home.name, flush=True)
time.sleep(60)
"""


def test_the_home_of_a_killed_process_is_an_orphan_at_once(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _LIVES_UNTIL_KILLED, tmp_path],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as child:
        assert child.stdout is not None
        name = child.stdout.readline().strip()
        assert take_orphans(tmp_path, known=()).homes == []
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert [home.name for home in take_orphans(tmp_path, known=()).homes] == [name]


def _make_and_take(spool: str, turn: int) -> list[str]:
    taken: list[str] = []
    for moment in range(30):
        make_home(Path(spool), at_us=turn * 100 + moment).leave()
        for home in take_orphans(Path(spool), known=()).homes:
            taken.append(home.name)
            home.remove()
    return taken


def test_processes_that_make_take_and_remove_homes_all_at_once_lose_none_and_share_none(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        parts = pool.starmap(_make_and_take, [(str(tmp_path), turn) for turn in range(4)], chunksize=1)
    taken = [name for part in parts for name in part]
    left = [home.name for home in take_orphans(tmp_path, known=()).homes]
    assert len(set(taken + left)) == 120
    assert len(taken + left) == 120
