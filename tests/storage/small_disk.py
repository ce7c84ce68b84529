"""A disk that is full soon: a tmpfs of a mebibyte or two, where this user may mount one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(at: Path, *, size_kib: int) -> Iterator[Path]:
    """Mounted at a directory that is made for it. Skips the test where that is not allowed."""
    if sys.platform != "linux":
        pytest.skip("a small file system is mounted only on Linux")
    at.mkdir()
    options = f"size={size_kib}k,mode=700"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(at)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"this user may not mount a small file system: {made.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", at], check=True)


def fill(disk: Path, *, but_bytes: int = 0) -> Path:
    """A file that takes all the room there is, but for some bytes; delete it and there is room again."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for block in (1 << 16, 1 << 12):
            try:
                while True:
                    file.write(bytes(block))
            except OSError:
                continue
        file.truncate(max(file.tell() - but_bytes, 0))
    return filler
