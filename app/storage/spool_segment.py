"""One file of the spool: appended to, read back by place, and remembered how far it has been shipped."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import NamedTuple

from app.storage.spool_format import SEGMENT_HEADER, Kind, Unreadable, Whole, scan, take_receipts

SEGMENT_SUFFIX = ".seg"
_SHIPPED_SUFFIX = ".shipped"
#: One reading: it keeps the loop busy for about half a millisecond.
_READING_BYTES = 1 << 18


#: What the disk says of a file that it will not give back. Anything else (no descriptors, no memory) may pass.
_LOST = frozenset({errno.EIO, errno.ENOENT, errno.EISDIR, errno.ENXIO, errno.EBADMSG})


class Batch(NamedTuple):
    """What one reading of a segment gave. `upto`: the segment is read so far; `finished`: to its very end."""

    receipts: list[bytes]
    upto: int
    unreadable: list[Unreadable]
    finished: bool


class Segment:
    """A segment file. Used from one thread, except that a worker may sync its descriptor meanwhile."""

    __slots__ = ("_fd", "end", "listed", "path", "retired", "shipped_to", "unshipped", "unsynced")

    def __init__(self, path: Path, *, fd: int | None, end: int, shipped_to: int) -> None:
        self.path = path
        self._fd = fd
        #: Bytes that count: what follows was never finished.
        self.end = end
        self.shipped_to = shipped_to
        #: Final receipts from `shipped_to` on.
        self.unshipped = 0
        #: Receipts that wait for the disk.
        self.unsynced = 0
        #: The directory entry is known to be on the disk.
        self.listed = False
        #: Never to be written again: a sync failed, or its end is a record that could neither be finished nor cut.
        self.retired = False

    @classmethod
    def begin(cls, path: Path) -> Segment:
        """A new file with its header. Raises OSError and leaves nothing then."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write(fd, SEGMENT_HEADER)
        except OSError:
            os.close(fd)
            path.unlink()
            raise
        return cls(path, fd=fd, end=len(SEGMENT_HEADER), shipped_to=len(SEGMENT_HEADER))

    @classmethod
    def left_behind(cls, path: Path, *, end: int) -> Segment:
        """A file of a process that is gone; opened only while it is read."""
        return cls(path, fd=None, end=end, shipped_to=min(_remembered(path), end))

    def append(self, record: bytes) -> int:
        """Write one record whole and return its place. Raises OSError; the file then ends where it ended before, or
        is `retired` if even that failed."""
        assert self._fd is not None, "a resting segment is not written"
        try:
            _write(self._fd, record)
        except OSError:
            self._cut_back()
            raise
        start = self.end
        self.end = start + len(record)
        return start

    def read(self, start: int, length: int) -> bytes:
        """These bytes, or fewer where the file ends. Raises OSError."""
        if self._fd is not None:
            return _read(self._fd, start, length)
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _read(fd, start, length)
        finally:
            os.close(fd)

    def receipts_from(self, start: int, *, most: int) -> Batch:
        """The receipts from a place on, as one reading finds them, at most `most`. Raises OSError."""
        remainder = self.end - start
        batch = _receipts(self.read(start, min(_READING_BYTES, remainder)), remainder=remainder, at=start, most=most)
        if batch is None:
            everything = self.read(start, remainder)
            batch = _receipts(everything, remainder=len(everything), at=start, most=most)
        assert batch is not None, "a reading to the end is always conclusive"
        return batch

    def shipped(self, *, upto: int, receipts: int) -> None:
        """Remember, beside the file, that this much is in Postgres. Forgetting it would only mean sending again."""
        self.shipped_to = upto
        self.unshipped -= receipts
        beside = self.path.with_suffix(_SHIPPED_SUFFIX)
        fresh = beside.with_suffix(".new")
        with contextlib.suppress(OSError):
            fresh.write_text(str(self.shipped_to), encoding="ascii")
            fresh.replace(beside)

    def fileno(self) -> int:
        assert self._fd is not None, "a resting segment has no descriptor"
        return self._fd

    def rest(self) -> None:
        """Close the descriptor; from now on the file is opened for each reading. A second call does nothing."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def delete(self) -> None:
        """Close and remove the file and what was remembered of it."""
        self.rest()
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(_SHIPPED_SUFFIX).unlink(missing_ok=True)

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self.fileno(), self.end)
        except OSError:
            self.retired = True


def is_lost(fault: OSError) -> bool:
    """True when reading the file again will not help either."""
    return fault.errno in _LOST


def _write(fd: int, record: bytes) -> None:
    written = os.write(fd, record)
    while written < len(record):
        more = os.write(fd, memoryview(record)[written:])
        if more == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written += more


def _read(fd: int, start: int, length: int) -> bytes:
    read = os.pread(fd, length, start)
    while len(read) < length and (more := os.pread(fd, length - len(read), start + len(read))):
        read += more
    return read


def _receipts(buffer: bytes, *, remainder: int, at: int, most: int) -> Batch | None:
    """None when the reading ended before it could be told what stands there."""
    receipts: list[bytes] = []
    unreadable: list[Unreadable] = []
    upto = take_receipts(buffer, receipts=receipts, most=most)
    for found in scan(buffer, start=upto) if len(receipts) < most else ():
        if isinstance(found, Whole):
            upto = found.end
            if found.kind == Kind.RECEIPT:
                receipts.append(found.payload(buffer))
                if len(receipts) == most:
                    break
        elif found.end == len(buffer) < remainder:
            break
        else:
            upto = found.end
            unreadable.append(Unreadable(at + found.start, at + found.end, found.torn))
    if upto == 0 and remainder > len(buffer) and buffer:
        return None
    return Batch(receipts, at + upto, unreadable, finished=upto >= remainder or not buffer)


def _remembered(path: Path) -> int:
    try:
        return max(int(path.with_suffix(_SHIPPED_SUFFIX).read_text(encoding="ascii")), len(SEGMENT_HEADER))
    except (OSError, ValueError):
        return len(SEGMENT_HEADER)
