"""Group durability: one worker thread syncs, and one sync releases everybody whose record it covers."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from app.storage.spool_segment import Segment

#: Makes what was written to a descriptor durable, or raises OSError.
Sync = Callable[[int], None]
#: After a sync that more than one waited for, the next begins so much later at the earliest: a sync costs about 100 µs
#: of CPU however many share it. A spool with little to do syncs at once.
PACE_S = 0.003


class Pending(NamedTuple):
    """A record that was written and is not known to be durable. An empty one only asks whether syncing works."""

    segment: Segment
    record: bytes
    waiter: asyncio.Future[None] | None


#: Told, on the loop's thread, which segments could not be synced and what is not durable for that reason.
OnFailure = Callable[[Mapping[Segment, OSError], Sequence[Pending]], None]


class GroupSync:
    """Records go in, waiters come free. While one sync runs, everything that arrives waits for the next, together.

    A segment whose sync failed is never synced again: its pending records are handed to `on_failure`, which may
    hand them back as records of another segment.
    """

    def __init__(self, *, sync: Sync, on_success: Callable[[], None], on_failure: OnFailure) -> None:
        self._loop = asyncio.get_running_loop()
        self._sync = sync
        self._on_success = on_success
        self._on_failure = on_failure
        self._pending: list[Pending] = []
        self._due = False
        self._busy = False
        #: The loop's time from which the next sync may begin.
        self._next_at_s = 0.0
        self._idle: list[asyncio.Future[None]] = []
        self._jobs: SimpleQueue[list[Pending] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="spool-sync", daemon=True)
        self._thread.start()

    def want(self, pending: Pending) -> None:
        """Sync the record's segment soon; all that is wanted in this turn of the loop shares one sync."""
        pending.segment.unsynced += 1
        self._pending.append(pending)
        if not self._due and not self._busy:
            self._due = True
            self._loop.call_soon(self._begin)

    async def close(self) -> None:
        """Wait until nothing is pending, then end the thread. Cancelled, it leaves the thread to the process's end."""
        while self._pending or self._busy:
            idle = self._loop.create_future()
            self._idle.append(idle)
            await idle
        self._jobs.put(None)
        self._thread.join()

    def _begin(self) -> None:
        self._due = False
        if not self._pending or self._busy:
            return
        now_s = self._loop.time()
        if now_s < self._next_at_s:
            self._due = True
            self._loop.call_at(self._next_at_s, self._begin)
            return
        self._busy = True
        group, self._pending = self._pending, []
        if len(group) > 1:
            self._next_at_s = now_s + PACE_S
        self._jobs.put(group)

    def _work(self) -> None:
        while (group := self._jobs.get()) is not None:
            failures: dict[Segment, OSError] = {}
            for segment in dict.fromkeys(pending.segment for pending in group):
                try:
                    _make_durable(segment, self._sync)
                except OSError as fault:
                    failures[segment] = fault
            try:
                self._loop.call_soon_threadsafe(self._done, group, failures)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

    def _done(self, group: Sequence[Pending], failures: Mapping[Segment, OSError]) -> None:
        self._busy = False
        for segment, _, waiter in group:
            segment.unsynced -= 1
            if waiter is not None and segment not in failures and not waiter.done():
                waiter.set_result(None)
        if failures:
            self._hand_over(group, failures)
        else:
            self._on_success()
        if not self._due:
            self._begin()
        if not self._busy and not self._pending:
            idle, self._idle = self._idle, []
            for waiter in idle:
                if not waiter.done():
                    waiter.set_result(None)

    def _hand_over(self, group: Sequence[Pending], failures: Mapping[Segment, OSError]) -> None:
        stranded = [pending for pending in self._pending if pending.segment in failures]
        self._pending = [pending for pending in self._pending if pending.segment not in failures]
        for pending in stranded:
            pending.segment.unsynced -= 1
        self._on_failure(failures, [*(pending for pending in group if pending.segment in failures), *stranded])


def sync_file(fd: int) -> None:
    """The file's bytes and its length reach the disk itself. Raises OSError."""
    if sys.platform == "darwin":
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)


def sync_directory(directory: Path) -> None:
    """The names in a directory reach the disk. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as fault:
        if fault.errno != errno.EINVAL:  # a file system that keeps no directories to sync
            raise
    finally:
        os.close(fd)


def _make_durable(segment: Segment, sync: Sync) -> None:
    sync(segment.fileno())
    if not segment.listed:
        sync_directory(segment.path.parent)
        segment.listed = True
