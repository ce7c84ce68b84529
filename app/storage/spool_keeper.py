"""Keeps records, or says why it cannot: the log of this process, its group durability, and what is done when the disk
is full, over its cap or failing. New work is refused while anything that was promised cannot be kept.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.domain.errors import LedgerUnavailable
from app.storage.spool_home import Home
from app.storage.spool_log import Log
from app.storage.spool_segment import Segment
from app.storage.spool_sync import GroupSync, Pending, Sync
from app.storage.spool_tail import Tail

_MEBIBYTE = 1 << 20
#: Room under the cap kept for each record that is to come: the receipt of every request that is under way.
_RECORD_ROOM_BYTES = 8 << 10
_MEND_AGAIN_S = 1.0
#: What callers hear: where the spool lies and what ails it is told in the log and at readiness.
_TOLD = "new work is refused, as its record could not be kept: try again later; the operator finds why in the log"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolLimits:
    """Sizes in bytes. `cap`: all segments of all processes in the directory but those in the tail, which may take up to
    a quarter of the cap besides; new work is refused above it. `reserve`: room that each process sets aside on the
    disk, so that what was dispatched can be settled when it is full. `tail_s`: for so long after it was shipped a
    segment is kept in the tail, for another server."""

    cap: int = 1024 * _MEBIBYTE
    segment: int = 16 * _MEBIBYTE
    reserve: int = 4 * _MEBIBYTE
    tail_s: float = 0.0


class Keeper:
    """Records go in whole or LedgerUnavailable comes out. Use it from the loop's thread only."""

    def __init__(
        self,
        directory: Path,
        home: Home,
        *,
        limits: SpoolLimits,
        sync: Sync | None,
        notice: Callable[[str], None],
        mend_again_s: float = _MEND_AGAIN_S,
        unix_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`sync` None: a record that is written is kept. Raises OSError."""
        self._directory = directory
        self._cap_bytes = limits.cap
        self._notice = notice
        self._mend_again_s = mend_again_s
        self._loop = asyncio.get_running_loop()
        self.tail = Tail(directory, home.name, kept_s=limits.tail_s, most_bytes=limits.cap // 4)
        self._log = Log(
            home,
            segment_bytes=limits.segment,
            reserve_bytes=limits.reserve,
            on_trouble=self._in_trouble,
            tail=self.tail,
            unix_s=unix_s,
        )
        self._group_sync: GroupSync | None = None
        if sync is not None:
            self._group_sync = GroupSync(sync=sync, on_success=self._synced, on_failure=self._sync_failed)
        #: What the segments hold that other processes write, or that were adopted.
        self.bytes_beside = 0
        self._trouble: str | None = None
        #: A sync failed, and none has succeeded since.
        self._disk_doubted = False
        self._mending: asyncio.TimerHandle | None = None
        self._closed = False
        self._mend()

    @property
    def log(self) -> Log:
        """What is written, for reading it."""
        return self._log

    @property
    def trouble(self) -> str | None:
        """Why new work is refused at this moment, in a sentence; None when it is not."""
        if self._trouble is None and self._is_over_cap():
            return (
                f"the spool in {self._directory} has reached its cap of {self._cap_bytes} bytes: bring Postgres back "
                "so that it can be shipped, or raise the cap"
            )
        return self._trouble

    def is_open(self, request_id: str) -> bool:
        """True while the request has an intent and no receipt."""
        return request_id in self._log.open

    def keep_intent(self, request_id: str, record: bytes) -> None:
        """Raises LedgerUnavailable."""
        self._check_room()
        try:
            self._log.intend(request_id, record)
        except OSError as fault:
            self._in_trouble(f"a record could not be written ({fault.strerror or fault}): free some space there")
            raise self.unavailable(fault) from fault

    def keep_checkpoint(self, request_id: str, record: bytes) -> None:
        """Best effort, for a request that is open."""
        if self._trouble is None and not self._is_over_cap():
            with contextlib.suppress(OSError):
                self._log.checkpoint(request_id, record)

    def keep_receipt(self, request_id: str, record: bytes, *, durable: asyncio.Future[None] | None) -> None:
        """Write it now; `durable` is resolved once it is on the disk, or fails with LedgerUnavailable.

        Raises LedgerUnavailable when it could not be written; that of an open request is then written later."""
        if self._closed or request_id not in self._log.open:
            self._check_room()
        try:
            segment = self._log.settle(request_id, record)
        except OSError as fault:
            error = self.unavailable(fault)
            if self._log.owed:
                self._in_trouble(str(error))
            raise error from fault
        if self._group_sync is not None:
            self._group_sync.want(Pending(segment, record, durable))
        elif durable is not None:
            durable.set_result(None)

    def unavailable(self, fault: OSError) -> LedgerUnavailable:
        """The error to raise for a fault of the disk."""
        return LedgerUnavailable(
            f"the spool in {self._directory} could not be written or read ({fault.strerror or fault}): free some space "
            "there, or move it to a healthy disk",
            told=_TOLD,
        )

    async def close(self) -> None:
        """Make everything pending durable and let go. New records are refused from the first moment on."""
        self._closed = True
        self._trouble = f"the spool in {self._directory} is closed: start the gateway again"
        if self._mending is not None:
            self._mending.cancel()
        try:
            if self._group_sync is not None:
                await self._group_sync.close()
        finally:
            self._log.close()

    def _check_room(self) -> None:
        if self._trouble is not None or self._is_over_cap():
            raise LedgerUnavailable(f"new work is refused: {self.trouble}", told=_TOLD)

    def _is_over_cap(self) -> bool:
        log = self._log
        rooms = len(log.open) + 2  # and one more request: its intent and its receipt
        return log.size_bytes + self.bytes_beside + rooms * _RECORD_ROOM_BYTES > self._cap_bytes

    # ── when it goes wrong ───────────────────────────────────────────────────────────────────────────────────────────

    def _in_trouble(self, reason: str) -> None:
        """Refuse new work from now on, and see in a while whether it is mended."""
        if self._trouble is None:
            self._trouble = f"the spool in {self._directory}: {reason}"
            self._notice(f"new work is refused: {self._trouble}")
        if self._mending is None and not self._closed:
            self._mending = self._loop.call_later(self._mend_again_s, self._mend)

    def _mend(self) -> None:
        """Write what is owed, set the reserve aside again, and try a sync where the last one failed."""
        self._mending = None
        if self._closed:
            return
        try:
            for segment, record in self._log.pay_owed():
                if self._group_sync is not None:
                    self._group_sync.want(Pending(segment, record, None))
            self._log.reserve.hold()
            if self._log.current.retired:
                self._log.begin_segment()
            if self._trouble is not None:
                self._log.prove_room()
        except OSError as fault:
            self._in_trouble(f"no room could be set aside ({fault.strerror}): free some space there")
            return
        if self._disk_doubted and self._group_sync is not None:
            self._group_sync.want(Pending(self._log.current, b"", None))
        elif self._trouble is not None:
            # What it was is told once more: a log on the same disk could not keep it then.
            self._notice(f"the spool in {self._directory} takes new work again; it had refused some: {self._trouble}")
            self._trouble = None

    def _synced(self) -> None:
        if self._disk_doubted:
            self._disk_doubted = False
            if self._mending is None:
                self._mend()

    def _sync_failed(self, failures: Mapping[Segment, OSError], stranded: Sequence[Pending]) -> None:
        """The records go into another segment, once; if the disk does not take that either, nobody is told that they
        were kept. They are shipped from wherever they stand, twice if need be."""
        doubted_before, self._disk_doubted = self._disk_doubted, True
        error = self.unavailable(next(iter(failures.values())))
        self._in_trouble(f"a sync failed: {error}")
        self._log.retire(failures)
        for _, record, waiter in stranded:
            moved = None if doubted_before or not record else self._moved(record)
            if moved is not None and self._group_sync is not None:
                self._group_sync.want(Pending(moved, record, waiter))
            elif waiter is not None and not waiter.done():
                waiter.set_exception(error)

    def _moved(self, record: bytes) -> Segment | None:
        try:
            return self._log.write_receipt(record, must=True)
        except OSError:
            return None
