"""Secrets of this installation that live in files: the pepper, and the digest of the operator's key.

Both are made at first use, with mode 0600, whole or not at all: a complete temporary file is linked to its name, and
a link never replaces what is there. So of two processes that start together one makes the file and both read it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from app.domain.errors import SetupError
from app.domain.keys import PEPPER_BYTES, Pepper, Peppers

RandomBytes = Callable[[int], bytes]

_PRIVATE: Final = 0o600
_LARGEST_BYTES: Final = 64 * 1024
_PEPPER_LINE: Final = re.compile(r"([1-9][0-9]{0,8}) ([0-9a-f]{64,128})")
_DIGEST_LINE: Final = re.compile(r"([1-9][0-9]{0,8}) ([0-9a-f]{64})")


class PepperFile:
    """`BREAKEVEN_DATA/pepper`: one line a version, `<version> <hex>`. A line added by hand is a rotation: keys made
    from then on take the highest version, older keys go on with theirs for as long as its line stays."""

    def __init__(self, path: Path, *, random_bytes: RandomBytes) -> None:
        self._path = path
        self._random_bytes = random_bytes

    def open(self) -> Peppers:
        """Every pepper, after making the first one if there was none. Raises SetupError naming the cure."""
        lines = read_private(self._path)
        if lines is None:
            write_once(self._path, [f"1 {self._random_bytes(PEPPER_BYTES).hex()}"], random_bytes=self._random_bytes)
            lines = read_private(self._path)
        peppers: dict[int, Pepper] = {}
        for number, line in enumerate(lines or (), start=1):
            match = _PEPPER_LINE.fullmatch(line)
            if match is None or len(match[2]) % 2 or int(match[1]) in peppers:
                raise SetupError(
                    f"{self._path}:{number} is not a pepper: restore the file from a backup (without it no key can be "
                    "verified), or move it away and make every key anew; a line is `<version> <64 to 128 hex digits>`"
                )
            version = int(match[1])
            peppers[version] = Pepper(bytes.fromhex(match[2]), version=version)
        if not peppers:
            raise SetupError(f"{self._path} is empty: restore it from a backup, or remove it and make every key anew")
        return Peppers(peppers)


class OperatorKeyFile:
    """`BREAKEVEN_DATA/operator-key`: the digest of the key that opens the console; the key itself is stored nowhere."""

    def __init__(self, path: Path, *, random_bytes: RandomBytes) -> None:
        self._path = path
        self._random_bytes = random_bytes

    def read(self) -> tuple[bytes, int] | None:
        """Digest and pepper version, or None when no operator key was made yet. Raises SetupError."""
        lines = read_private(self._path)
        if lines is None:
            return None
        match = _DIGEST_LINE.fullmatch(lines[0]) if len(lines) == 1 else None
        if match is None:
            raise SetupError(f"{self._path} is damaged: remove it, and the next start makes a new operator key")
        return bytes.fromhex(match[2]), int(match[1])

    def keep(self, digest: bytes, *, pepper_version: int) -> bool:
        """Keep this digest, unless there is one already: False then, and nothing has changed."""
        line = f"{pepper_version} {digest.hex()}"
        return write_once(self._path, [line], random_bytes=self._random_bytes)

    def forget(self) -> None:
        """Remove the digest; consoles that are running know the old key until they are started again."""
        self._path.unlink(missing_ok=True)


def read_private(path: Path) -> tuple[str, ...] | None:
    """The lines of a file that only its owner may read; None when it is not there. Follows no link.

    Raises SetupError when others may read it, or it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise SetupError(f"{path} cannot be read ({fault.strerror}): it must be a plain file of this user") from fault
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise SetupError(f"{path} is not a plain file: move it away")
        if mode & 0o077:
            raise SetupError(f"{path} can be touched by others (mode {mode & 0o777:03o}): run `chmod 600 {path}`")
        text = os.read(descriptor, _LARGEST_BYTES)
    finally:
        os.close(descriptor)
    return tuple(text.decode("ascii", "replace").splitlines())


def write_once(path: Path, lines: Iterable[str], *, random_bytes: RandomBytes) -> bool:
    """Make the file with these lines, durable and private, unless it is there: False then.

    Raises SetupError when it cannot be made.
    """
    draft = path.with_name(f".{path.name}.{random_bytes(8).hex()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _link_new(path, draft, "".join(f"{line}\n" for line in lines).encode())
    except OSError as fault:
        raise SetupError(
            f"{path} cannot be made ({fault.strerror}): set BREAKEVEN_DATA to a directory on a local disk that this "
            "user may write to"
        ) from fault


def _link_new(path: Path, draft: Path, content: bytes) -> bool:
    try:
        _write_durably(draft, content)
        path.hardlink_to(draft)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    _sync_directory(path.parent)
    return True


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
