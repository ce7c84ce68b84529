"""The log files of child processes: what is new, what tells of trouble, and an end to their growth."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: A log that grew over this is copied to `<name>.1` and begun anew.
MOST_LOG_BYTES: Final = 20 * 1024 * 1024
MOST_READ_BYTES: Final = 256 * 1024
MOST_LINE_CHARS: Final = 400
#: More lines of trouble in one look are counted, not shown.
MOST_TROUBLE_LINES: Final = 5

_POLICY_LOGGER: Final = "breakeven.policy"
_IN_FORCE: Final = "policy in force"
_TROUBLED_LEVELS: Final = frozenset({"warning", "error", "critical"})
_TROUBLED_WORDS: Final = ("Traceback", "ERROR", "WARNING", "CRITICAL", "FATAL", "PANIC", "breakeven: ")


@dataclass(slots=True)
class LogTail:
    """Reads what came into a file since it was made. A file that became shorter is read from its beginning.

    `policy`: whether it tells of the policy too, which every process follows and one is enough to tell of.
    """

    path: Path
    policy: bool = True
    _began: int = 0
    _offset: int = 0
    _rest: bytes = b""

    def __post_init__(self) -> None:
        self._began = self._offset = self._size()

    def trouble(self) -> list[str]:
        """The new whole lines that tell of trouble, or of another policy in force, in plain words; past a handful only
        their number."""
        found = [told for line in self._new_lines() if (told := _trouble(line, policy=self.policy)) is not None]
        if len(found) > MOST_TROUBLE_LINES:
            more = len(found) - MOST_TROUBLE_LINES
            found[MOST_TROUBLE_LINES:] = [f"… and {more} more lines in {self.path}"]
        return found

    def last(self, count: int) -> list[str]:
        """The last `count` lines that came since, in plain words."""
        size = self._size()
        began = self._began if size >= self._began else 0
        if size == began:
            return []
        with self.path.open("rb") as log:
            log.seek(max(began, size - MOST_READ_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
        return [_told(line) for line in lines if line.strip()][-count:]

    def _new_lines(self) -> list[str]:
        size = self._size()
        if size < self._offset:
            self._offset, self._rest = 0, b""
        if size == self._offset:
            return []
        with self.path.open("rb") as log:
            log.seek(max(self._offset, size - MOST_READ_BYTES))
            read = self._rest + log.read(MOST_READ_BYTES)
            self._offset = log.tell()
        *whole, self._rest = read.split(b"\n")
        self._rest = self._rest[-MOST_READ_BYTES:]
        return [line.decode(errors="replace") for line in whole]

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0


def trimmed(log: Path) -> None:
    """Set a log that grew too long aside and empty it in place, as its writer keeps it open.

    Lines written between the copy and the cut are lost: a log may lose lines, the ledger is kept elsewhere.
    """
    try:
        if log.stat().st_size <= MOST_LOG_BYTES:
            return
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)
    except FileNotFoundError:
        return


def room_bytes(directory: Path) -> int:
    """What this user may still write there. Raises OSError."""
    disk = os.statvfs(directory)
    return (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail) * disk.f_frsize


def _trouble(line: str, *, policy: bool) -> str | None:
    if not line.startswith("{"):
        return line[:MOST_LINE_CHARS] if line.startswith(_TROUBLED_WORDS) else None
    record = _record(line)
    if record.get("logger") == _POLICY_LOGGER:
        if not policy:
            return None
        if record.get("event") == _IN_FORCE and record.get("before"):
            return f"policy {record.get('digest')} in force, by {record.get('by')}"
    return _told(line) if str(record.get("level", "")).lower() in _TROUBLED_LEVELS else None


def _told(line: str) -> str:
    """A JSON line by its event and the first finding, the rest of them counted; any other as it stands. One line, and
    never longer than a screen's few."""
    record = _record(line)
    first, *others = str(record.get("findings") or "").split("\n")
    more = f" (and {len(others)} more: `breakeven policy check`)" if others else ""
    told = ": ".join(part for part in (str(record.get("event") or ""), first) if part)
    return (told or line).replace("\n", " ")[: MOST_LINE_CHARS - len(more)] + more


def _record(line: str) -> dict[str, object]:
    if not line.startswith("{"):
        return {}
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
