"""The `policies/` directory: what ops wrote, as text, and whether it looks as it did.

One mechanism everywhere: looking. Editors rename and replace, Kubernetes swaps a symbolic link, a network volume tells
nobody; a look at each file through its links (which inode, how large, changed when) sees all of them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from app.domain.errors import PolicyInvalid
from app.domain.findings import Finding, Severity
from app.storage.shelf_author import author_of

#: No policy file of a person is larger; a larger one is a mistake. Not a byte beyond is read.
MOST_FILE_BYTES = 1 << 20
MOST_FILES = 256
#: All files together.
MOST_BYTES = 4 << 20

_SUFFIX = ".yaml"


class PolicyShelf:
    """ports.Shelf over a directory. Reads anew at every call; hidden files and those that are not YAML are left out."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def look(self) -> object:
        try:
            names = self._names()
        except OSError as fault:
            return fault.errno
        return tuple((name, self._signature(name)) for name in names)

    def read(self) -> Mapping[str, str]:
        try:
            names = self._names()
        except FileNotFoundError:
            names = []
        except OSError as fault:
            raise PolicyInvalid([self._unreadable(str(self._directory), fault)]) from fault
        if not names or len(names) > MOST_FILES:
            raise PolicyInvalid([self._too_many(len(names)) if names else self._no_files()])
        texts: dict[str, str] = {}
        findings: list[Finding] = []
        left = MOST_BYTES
        for name in names:
            text = self._text(name)
            if isinstance(text, Finding):
                findings.append(text)
                continue
            left -= len(text)
            if left < 0:
                findings.append(_too_large(name, f"with this file all of them have over {MOST_BYTES >> 20} MiB"))
                break
            texts[name] = text
        if findings:
            raise PolicyInvalid(findings)
        return texts

    def author(self) -> str:
        return author_of(self._directory, files=self._paths())

    def _names(self) -> list[str]:
        """Raises OSError when the directory cannot be listed."""
        with os.scandir(self._directory) as entries:
            return sorted(entry.name for entry in entries if _is_ours(entry.name))

    def _paths(self) -> Iterator[Path]:
        try:
            yield from (self._directory / name for name in self._names())
        except OSError:
            return

    def _signature(self, name: str) -> object:
        try:
            seen = (self._directory / name).stat()
        except OSError as fault:
            return fault.errno
        return (seen.st_dev, seen.st_ino, seen.st_mode, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)

    def _text(self, name: str) -> str | Finding:
        """Bytes that are not UTF-8 pass as lone surrogates, so that whoever reads the text can say where they stand."""
        path = self._directory / name
        if not name.isprintable():
            shown = ascii(name)[1:-1]
            return _finding(shown, "unreadable", "the file's name is no readable text", mend="rename it")
        try:
            raw = _beginning(path)
        except OSError as fault:
            return self._unreadable(name, fault)
        if raw is None:
            return _finding(
                name, "unreadable", f"{path} is not a file", mend="put a file in its place, or rename or remove it"
            )
        if len(raw) > MOST_FILE_BYTES:
            return _too_large(name, f"{path} is over {MOST_FILE_BYTES >> 20} MiB")
        return raw.decode("utf-8", "surrogateescape")

    def _no_files(self) -> Finding:
        message = f"there are no *{_SUFFIX} files in {self._directory}"
        if not self._directory.exists():
            message = f"{message}: there is no such directory"
        mend = "copy the shipped policies there, or name another directory in BREAKEVEN_POLICIES"
        return _finding(str(self._directory), "no-files", message, mend=mend)

    def _too_many(self, count: int) -> Finding:
        message = f"{self._directory} holds {count} policy files"
        return _finding(str(self._directory), "too-many", message, mend=f"merge them into {MOST_FILES} or fewer")

    def _unreadable(self, name: str, fault: OSError) -> Finding:
        path = self._directory / name
        mend = "mend its rights, or name another directory in BREAKEVEN_POLICIES"
        if isinstance(fault, FileNotFoundError):
            mend = "it is a link to nothing, or has just been removed: restore what it leads to, or remove it"
        return _finding(name, "unreadable", f"{path} cannot be read ({fault.strerror})", mend=mend)


def _is_ours(name: str) -> bool:
    return name.endswith(_SUFFIX) and not name.startswith(".")


def _beginning(path: Path) -> bytes | None:
    """The file, or so much of it that it is seen to be too large; None for what is no file. Never waits for a pipe."""
    with open(path, "rb", buffering=0, opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
        parts: list[bytes] = []
        left = MOST_FILE_BYTES + 1
        while left and (part := file.read(left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _too_large(name: str, message: str) -> Finding:
    return _finding(name, "too-large", message, mend="no policy is that long: split or mend it")


def _finding(file: str, code: str, message: str, *, mend: str) -> Finding:
    return Finding(file=file, line=0, column=0, severity=Severity.ERROR, code=code, message=message, mend=mend)
