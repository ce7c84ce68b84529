"""Whose records are whose: every process writes into a directory of its own below the spool, its home, and holds a
flock there for as long as it lives. The kernel drops the lock with the process, so a home whose lock is free is an
orphan: its owner is gone, and whoever takes the lock adopts all its segments together.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from app.storage.spool_segment import SEGMENT_SUFFIX

HOMES = "homes"
_TURN = "turn.lock"
_OWNER = "owner.lock"
RESERVE = "reserve"
PROOF = "proof"


@dataclass(frozen=True, slots=True)
class Home:
    """A directory of segments, and the lock that says it is ours."""

    path: Path
    lock_fd: int

    @property
    def name(self) -> str:
        return self.path.name

    def segment_path(self, number: int) -> Path:
        return self.path / f"{number:08d}{SEGMENT_SUFFIX}"

    def segment_paths(self) -> list[Path]:
        """The segments that are there, oldest first. Raises OSError; a glob would call an error an empty directory."""
        return sorted(path for path in self.path.iterdir() if path.suffix == SEGMENT_SUFFIX)

    def leave(self) -> None:
        """Let go of the lock; whatever is still here may be adopted by anybody."""
        os.close(self.lock_fd)

    def remove(self) -> None:
        """Leave, and take the directory away unless there is a segment in it."""
        with contextlib.suppress(OSError), _turn(self.path.parent.parent):
            if not self.segment_paths():
                for path in list(self.path.iterdir()):
                    path.unlink()
                self.path.rmdir()
        self.leave()


def make_home(spool: Path, *, at_us: int) -> Home:
    """A fresh, empty home, locked. Homes sort by the time they were made. Raises OSError."""
    homes = spool / HOMES
    homes.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _turn(spool):
        number = 0
        while True:
            path = homes / f"{at_us:017d}-{os.getpid()}-{number}"
            try:
                path.mkdir(mode=0o700)
            except FileExistsError:
                number += 1
                continue
            lock_fd = _lock(path)
            assert lock_fd is not None, "nobody looks at a new home before the turn is over"
            return Home(path, lock_fd)


class Taken(NamedTuple):
    """Homes that are ours now, oldest first, and those that this user may not open."""

    homes: list[Home]
    forbidden: dict[Path, OSError]


def take_orphans(spool: Path, *, known: Collection[str]) -> Taken:
    """Every home whose owner is gone, locked for us. `known`: names of homes that are ours already. Raises OSError."""
    taken = Taken([], {})
    with _turn(spool):
        for path in sorted((spool / HOMES).iterdir()):
            if path.name in known:
                continue
            try:
                lock_fd = _lock(path)
            except PermissionError as fault:
                taken.forbidden[path] = fault
                continue
            if lock_fd is not None:
                taken.homes.append(Home(path, lock_fd))
    return taken


def bytes_elsewhere(spool: Path, *, known: Collection[str]) -> int:
    """What the segments of other processes hold now."""
    total = 0
    for home in (spool / HOMES).iterdir():
        if home.name not in known:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                total += sum(path.stat().st_size for path in home.iterdir() if path.suffix == SEGMENT_SUFFIX)
    return total


def _lock(path: Path) -> int | None:
    """The owner's lock of a home; None when it is held, or this is no home. Raises OSError."""
    try:
        fd = os.open(path / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


@contextlib.contextmanager
def _turn(spool: Path) -> Iterator[None]:
    """Homes are made, taken and removed by one process at a time, so nobody ever sees half a home."""
    fd = os.open(spool / _TURN, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
