"""What could not be booked is put aside, whole and counted, never dropped: damaged bytes and refused receipts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

_DIRECTORY = "quarantine"


class Quarantine:
    """A directory below the spool, shared by all processes.

    damaged-HOME-SEGMENT-PLACE.bin   bytes that stood where a record should stand; the same damage, the same name
    unreadable-HOME-SEGMENT.seg      a whole segment that the disk does not give back
    rejected-HOME.jsonl              a line for each receipt that Postgres refused: its reason and its JSON as text
    """

    def __init__(self, spool: Path) -> None:
        """Makes the directory and counts what is in it. Raises OSError."""
        self.path = spool / _DIRECTORY
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._count = sum(_cases(path) for path in self.path.iterdir())

    @property
    def count(self) -> int:
        """Damaged stretches and refused receipts: those found at the start, and this process's since."""
        return self._count

    def keep_damaged(self, damaged: bytes, *, home: str, segment: str, at: int) -> bool:
        """Put bytes aside, on the disk. False when this very damage was put aside before. Raises OSError."""
        path = self.path / f"damaged-{home}-{segment}-{at:08d}.bin"
        if path.exists():
            return False
        fresh = path.with_suffix(f".{os.getpid()}.new")
        with fresh.open("wb") as file:
            file.write(damaged)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        self._count += 1
        return True

    def keep_unreadable(self, segment: Path, *, home: str) -> None:
        """Put a whole segment aside that cannot be read; an empty file stands for one that is gone. Raises OSError."""
        aside = self.path / f"unreadable-{home}-{segment.name}"
        try:
            segment.replace(aside)
        except FileNotFoundError:
            aside.touch(mode=0o600)
        self._count += 1

    def keep_rejected(self, receipt: bytes, *, home: str, reason: str) -> None:
        """Put a receipt aside and return once it is on the disk. Raises OSError."""
        line = msgspec.json.encode({"reason": reason, "receipt": receipt.decode(errors="backslashreplace")}) + b"\n"
        path = self.path / f"rejected-{home}.jsonl"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            end = os.fstat(fd).st_size
            try:
                if os.write(fd, line) != len(line):
                    raise OSError(f"only a part of a line could be written to {path}: free some space on its disk")
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, end)
                raise
        finally:
            os.close(fd)
        self._count += 1

    def rejected(self) -> Iterator[tuple[str, str]]:
        """Reason and JSON text of every refused receipt, of all processes."""
        for path in sorted(path for path in self.path.iterdir() if path.name.startswith("rejected-")):
            for line in path.read_bytes().splitlines():
                kept = msgspec.json.decode(line, type=dict[str, str])
                yield kept["reason"], kept["receipt"]


def _cases(path: Path) -> int:
    if path.name.startswith("rejected-"):
        return path.read_bytes().count(b"\n")
    return 0 if path.suffix == ".new" else 1
