"""Where log lines go: a bounded queue and one thread that writes, so that a sink that blocks never blocks the loop.

The thread wakes at the first line and then writes in batches. A sink that takes nothing fills the queue; from then on
new lines are dropped and counted, and the count itself stands before the next line that the sink takes.
"""

from __future__ import annotations

import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

MOST_LINES: Final = 10_000
LONGEST_LINE_BYTES: Final = 16 * 1024
#: How long a batch may gather. Lines appear this much late, and a busy process writes only so often.
GATHER_S: Final = 0.2
_BATCH_LINES: Final = 512
#: A pipe takes this much at once, so lines of several processes in one pipe do not tear one another apart.
PIPE_BYTES: Final = select.PIPE_BUF
#: A file takes everything at once; each write interrupts the event loop's thread, so few large ones are better.
FILE_BYTES: Final = 256 * 1024

Write = Callable[[bytes], object]


class LineSink:
    """Lines in, from any thread, never waiting; bytes out through `write`, from one thread of its own.

    `write` takes whole lines and may block for as long as it likes; an OSError from it loses those lines, counted.
    """

    def __init__(
        self,
        write: Write,
        *,
        dropped_line: Callable[[int], bytes],
        most_lines: int = MOST_LINES,
        gather_s: float = GATHER_S,
        atomic_bytes: int = PIPE_BYTES,
    ) -> None:
        self._write = write
        self._dropped_line = dropped_line
        self._most_lines = most_lines
        self._gather_s = gather_s
        self._atomic_bytes = atomic_bytes
        self._lines: deque[bytes] = deque()
        self._there_is_work = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        # Each count has one writer: callers refuse lines, the thread loses them.
        self._refused = 0
        self._lost = 0
        self._told = 0

    @property
    def dropped(self) -> int:
        """Lines lost so far."""
        return self._refused + self._lost

    def offer(self, line: bytes) -> None:
        """Queue one line, without its line break, or drop it. The writer starts with the first one, so that a process
        that forks before it logs leaves no thread behind."""
        if len(self._lines) >= self._most_lines or self._closing.is_set():
            self._refused += 1
            return
        self._lines.append(line)
        if not self._there_is_work.is_set():
            self._there_is_work.set()
            if self._thread is None:
                self._start()

    def close(self, *, timeout_s: float) -> bool:
        """Write what is queued, for so long at most; True when all of it was. Lines offered later are dropped."""
        self._closing.set()
        self._there_is_work.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                # A daemon: a sink that blocks for ever must not keep the process from ending.
                self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._there_is_work.wait()
            self._closing.wait(self._gather_s)
            self._there_is_work.clear()
            self._drain()
        self._drain()

    def _drain(self) -> None:
        while self._lines:
            if self._told < (dropped := self.dropped) and self._try(self._dropped_line(dropped - self._told) + b"\n"):
                self._told = dropped
            batch = (self._lines.popleft() for _ in range(min(len(self._lines), _BATCH_LINES)))
            for part in _parts(batch, atomic_bytes=self._atomic_bytes):
                if not self._try(part):
                    self._lost += part.count(b"\n")

    def _try(self, part: bytes) -> bool:
        try:
            self._write(part)
        except OSError:
            return False
        return True


def write_to(descriptor: int) -> Write:
    """Writes all of it to an open descriptor, waiting for room even when somebody made the descriptor non-blocking."""

    def write(part: bytes) -> None:
        left = memoryview(part)
        while left:
            try:
                left = left[os.write(descriptor, left) :]
            except BlockingIOError:
                select.select([], [descriptor], [])

    return write


def atomic_bytes(descriptor: int) -> int:
    """How much one write to this descriptor keeps together."""
    return FILE_BYTES if stat.S_ISREG(os.fstat(descriptor).st_mode) else PIPE_BYTES


def _parts(lines: Iterable[bytes], *, atomic_bytes: int) -> Iterator[bytes]:
    """Whole lines, as many together as one write keeps together."""
    part: list[bytes] = []
    size = 0
    for line in lines:
        kept = line if len(line) < LONGEST_LINE_BYTES else line[: LONGEST_LINE_BYTES - 1]
        if part and size + len(kept) + 1 > atomic_bytes:
            yield b"".join(part)
            part, size = [], 0
        part += (kept, b"\n")
        size += len(kept) + 1
    if part:
        yield b"".join(part)
