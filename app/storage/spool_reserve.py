"""Room on the disk set aside, so that requests already dispatched can still be settled when the disk is full."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path


class Reserve:
    """A file of `size_bytes` that holds nothing but blocks. On file systems that promise blocks without keeping
    them (compression, copy on write) it is best effort."""

    def __init__(self, path: Path, *, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self._held = False

    @property
    def held(self) -> bool:
        """True while the room is there."""
        return self._held

    def hold(self) -> None:
        """Set the room aside; nothing when it is already. Raises OSError, leaving nothing behind."""
        if self._held or self._size_bytes == 0:
            self._held = True
            return
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _allocate(fd, self._size_bytes)
        except OSError:
            self._path.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        self._held = True

    def release(self) -> bool:
        """Give the room back to the file system; whether there was any to give."""
        had = self._held and self._size_bytes > 0
        self._held = False
        self._path.unlink(missing_ok=True)
        return had


def _allocate(fd: int, size_bytes: int) -> None:
    if sys.platform != "darwin":
        try:
            os.posix_fallocate(fd, 0, size_bytes)
        except OSError as fault:
            if fault.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
                raise
        else:
            return
    _fill(fd, size_bytes)


def _fill(fd: int, size_bytes: int) -> None:
    block = bytes(1 << 16)
    for at in range(0, size_bytes, len(block)):
        os.pwrite(fd, block[: size_bytes - at], at)
