"""Where log lines go: one JSON object a line, through a thread of its own, so that nobody ever waits for a log."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from app.system import SystemClock
from app.telemetry.logs import EventLog, dropped_line
from app.telemetry.sink import LineSink, atomic_bytes, write_to

CLOSE_S = 2.0


@contextlib.contextmanager
def logging_to(descriptor: int, *, level: str) -> Iterator[LineSink]:
    """Python's logging and receipts' lines go to this file descriptor as long as the block lasts."""
    clock = SystemClock()
    sink = LineSink(
        write_to(descriptor),
        dropped_line=lambda count: dropped_line(count, at_s=lambda: clock.unix_us() / 1e6),
        atomic_bytes=atomic_bytes(descriptor),
    )
    handler = EventLog(sink, level=logging.getLevelNamesMapping()[level.upper()])
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(handler.level)
    try:
        yield sink
    finally:
        root.removeHandler(handler)
        sink.close(timeout_s=CLOSE_S)
