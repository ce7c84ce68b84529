"""A wall clock that a test moves while programs run: of those that were started with its `environment`.

    def test_…(movable_clock: MovableClock) -> None:
        subprocess.Popen(…, env={**os.environ, **movable_clock.environment})
        movable_clock.jump_to(timedelta(days=-1))       # from now on it reads yesterday

`clock_jump.c` is compiled once for a run.
"""

from __future__ import annotations

import contextlib
import mmap
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tests.postgres import open_directory

SOURCE = Path(__file__).with_name("clock_jump.c")
COMPILER = "cc"


@dataclass(frozen=True, slots=True)
class MovableClock:
    """At first it reads what the machine's reads."""

    library: Path
    file: Path
    _ahead_ns: memoryview

    @property
    def environment(self) -> dict[str, str]:
        """What a program has to be started with."""
        return {"LD_PRELOAD": str(self.library), "CLOCK_JUMP_FILE": str(self.file)}

    def jump_to(self, ahead: timedelta) -> None:
        """From now on it is so far ahead of the machine's clock; below zero: behind."""
        self._ahead_ns[0] = ahead // timedelta(microseconds=1) * 1000


@pytest.fixture(scope="session")
def clock_library() -> Iterator[Path]:
    """The compiled library, where every user can read it."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"there is no C compiler `{COMPILER}` here, which the library that moves clocks is made with")
    with open_directory("breakeven-clock-") as directory:
        library = directory / "clock_jump.so"
        flags = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
        subprocess.run([COMPILER, *flags, "-o", str(library), str(SOURCE), "-ldl"], check=True)
        library.chmod(0o755)
        yield library


@pytest.fixture
def movable_clock(clock_library: Path) -> Iterator[MovableClock]:
    """A clock of this test's own."""
    with a_movable_clock(clock_library) as clock:
        yield clock


@contextlib.contextmanager
def a_movable_clock(library: Path) -> Iterator[MovableClock]:
    """One more."""
    with open_directory("breakeven-clock-") as directory:
        file = directory / "ahead"
        file.write_bytes(bytes(8))
        file.chmod(0o644)
        with (
            file.open("r+b") as opened,
            mmap.mmap(opened.fileno(), 8) as mapped,
            memoryview(mapped) as raw,
            raw.cast("q") as ahead_ns,
        ):
            yield MovableClock(library, file, ahead_ns)
