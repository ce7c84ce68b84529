"""Counting users by a lock, and taking turns."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from app.storage.embedded import StartFailed
from app.storage.embedded_locks import UserLock, anybody_uses, turn


def open_file(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def test_only_the_last_to_leave_is_told_that_nobody_is_left(path: Path) -> None:
    """E-3"""
    users = [UserLock(path, open_file=open_file) for _ in range(3)]
    for user in users:
        user.join()
    assert [user.leave() for user in users] == [False, False, True]


def test_joining_twice_counts_once(path: Path) -> None:
    """E-3"""
    user = UserLock(path, open_file=open_file)
    user.join()
    user.join()
    assert user.leave()
    assert not user.held
    assert not anybody_uses(path, open_file=open_file)


def test_who_never_joined_learns_on_leaving_whether_others_are_there(path: Path) -> None:
    """E-3"""
    user, outsider = UserLock(path, open_file=open_file), UserLock(path, open_file=open_file)
    user.join()
    assert not outsider.leave()
    assert user.leave()
    assert outsider.leave()


FORKING_STORY = """
import os, sys
from pathlib import Path
from app.storage.embedded_locks import UserLock, anybody_uses
path = Path(sys.argv[1])
opener = lambda path, flags: os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
user = UserLock(path, open_file=opener)
user.join()
before = len(os.listdir("/dev/fd"))
told, tell = os.pipe()
child = os.fork()
if child == 0:
    os.read(told, 1)
    assert user.held and len(os.listdir("/dev/fd")) == before + 2
    os._exit(0 if user.leave() else 1)
assert len(os.listdir("/dev/fd")) == before + 2, "the parent keeps nothing of the child's share"
assert not user.leave(), "the child counts although the parent left at once"
assert anybody_uses(path, open_file=opener)
os.write(tell, b"x")
assert os.waitpid(child, 0)[1] == 0, "the child was the last"
assert not anybody_uses(path, open_file=opener)
"""


def test_a_forked_child_has_a_share_of_its_own(path: Path) -> None:
    """E-10"""
    told = [sys.executable, "-c", FORKING_STORY, str(path)]
    done = subprocess.run(told, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stderr) == (0, "")


def test_a_process_started_afresh_inherits_no_share(path: Path) -> None:
    """E-10"""
    user = UserLock(path, open_file=open_file)
    user.join()
    with subprocess.Popen(["sleep", "60"], close_fds=False) as other:
        assert user.leave()
        other.kill()


def test_a_turn_is_taken_by_one_at_a_time(path: Path) -> None:
    """E-1"""
    inside: list[int] = []
    most: list[int] = []

    def take_turns() -> None:
        for _ in range(5):
            with turn(path, open_file=open_file, timeout_s=60):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.002)
                inside.pop()

    threads = [threading.Thread(target=take_turns) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20


def test_who_waits_too_long_for_its_turn_is_told_which_lock_is_held(path: Path) -> None:
    with (
        turn(path, open_file=open_file, timeout_s=0),
        pytest.raises(StartFailed, match=rf"it holds {path}\): wait for it"),
        turn(path, open_file=open_file, timeout_s=0.05),
    ):
        pytest.fail("two had the turn")


def test_a_turn_ends_with_an_error_too(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), turn(path, open_file=open_file, timeout_s=0):
        raise ZeroDivisionError
    with turn(path, open_file=open_file, timeout_s=0):
        pass


def test_a_killed_process_gives_its_turn_back(path: Path) -> None:
    """E-3"""
    holder = multiprocessing.get_context("spawn").Process(target=hold_for_ever, args=(path,))
    holder.start()
    while not path.exists() or not anybody_uses(path, open_file=open_file):
        time.sleep(0.02)
    holder.kill()
    holder.join()
    with turn(path, open_file=open_file, timeout_s=10):
        pass
    holder.close()


def hold_for_ever(path: Path) -> None:
    with turn(path, open_file=open_file, timeout_s=10):
        time.sleep(600)
