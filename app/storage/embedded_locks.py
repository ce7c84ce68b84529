"""Who uses the embedded server, and whose turn it is to start or stop it: two flocks, and no list of pids.

The kernel drops a flock when the last descriptor of its open file goes, so a process that dies by kill -9 leaves
nothing behind that anybody would have to clean up or could mistake for a living user.
"""

import contextlib
import fcntl
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

from app.storage.embedded_errors import StartFailed

POLL_S = 0.02

OpenFile = Callable[[Path, int], int]
"""Opens a lock file with the flags given and returns the descriptor, closed on exec."""


@contextlib.contextmanager
def turn(path: Path, *, open_file: OpenFile, timeout_s: float) -> Iterator[None]:
    """Be the only one who starts or stops the server. Raises `StartFailed` when others keep the turn too long."""
    fd = open_file(path, os.O_RDWR)
    try:
        deadline_s = time.monotonic() + timeout_s
        while not _try_lock(fd, fcntl.LOCK_EX):
            if time.monotonic() > deadline_s:
                raise StartFailed(
                    f"another process has been starting or stopping the embedded PostgreSQL for {timeout_s:.0f} s "
                    f"(it holds {path}): wait for it or end it, then try again"
                )
            time.sleep(POLL_S)
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)  # said aloud: a forked child may still hold a copy of the descriptor
        os.close(fd)


class UserLock:
    """This process's share in the count of users. Join and leave only while holding the turn.

    A forked child gets a share of its own before the fork, so neither side can be missed.
    """

    def __init__(self, path: Path, *, open_file: OpenFile) -> None:
        self._path = path
        self._open_file = open_file
        self._fd: int | None = None
        self._childs_fd: int | None = None
        self._still = threading.Lock()  # no fork while the share changes hands
        self._watches_forks = False

    @property
    def held(self) -> bool:
        return self._fd is not None

    def join(self) -> None:
        """Become a user; harmless when already one."""
        with self._still:
            if self._fd is None:
                self._fd = self._share()
            if not self._watches_forks:
                _watch_forks(weakref.ref(self))
                self._watches_forks = True

    def leave(self) -> bool:
        """Stop being a user, if this process is one; whether nobody else is left."""
        with self._still:
            fd = self._open_file(self._path, os.O_RDWR) if self._fd is None else self._fd
            self._fd = None
            try:
                return _try_lock(fd, fcntl.LOCK_EX)
            finally:
                fcntl.flock(fd, fcntl.LOCK_UN)
                os.close(fd)

    def _share(self) -> int:
        fd = self._open_file(self._path, os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_SH)
        return fd

    def _before_fork(self) -> None:
        self._still.acquire()
        if self._fd is not None:
            self._childs_fd = self._share()

    def _after_fork_in_parent(self) -> None:
        if self._childs_fd is not None:
            os.close(self._childs_fd)
            self._childs_fd = None
        self._still.release()

    def _after_fork_in_child(self) -> None:
        if self._fd is not None:
            os.close(self._fd)  # the parent's share lives on in the parent
        self._fd, self._childs_fd = self._childs_fd, None
        self._still.release()


def anybody_uses(path: Path, *, open_file: OpenFile) -> bool:
    """Whether anybody holds a share. Ask only while holding the turn, or a leaver may think it is not the last."""
    fd = open_file(path, os.O_RDWR)
    try:
        return not _try_lock(fd, fcntl.LOCK_EX)
    finally:
        os.close(fd)


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _watch_forks(reference: "weakref.ref[UserLock]") -> None:
    """Hooks cannot be taken back, so they must not keep the lock alive."""

    def hook(method: Callable[[UserLock], None]) -> Callable[[], None]:
        def run() -> None:
            lock = reference()
            if lock is not None:
                method(lock)

        return run

    os.register_at_fork(
        before=hook(UserLock._before_fork),
        after_in_parent=hook(UserLock._after_fork_in_parent),
        after_in_child=hook(UserLock._after_fork_in_child),
    )
