"""What this process writes: the segments of its own home, and which intents in them are still open."""

from __future__ import annotations

import contextlib
import errno
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from app.storage.spool_format import SEGMENT_HEADER, record_at
from app.storage.spool_home import PROOF, RESERVE, Home
from app.storage.spool_reserve import Reserve
from app.storage.spool_segment import Segment
from app.storage.spool_tail import Tail

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
#: An idle spool starts a new segment, and so gives its space back, once the current one is larger than this.
_WORTH_LEAVING_BYTES = 1 << 20
#: A disk that had no room for a record is believed again once it has room for this much.
_PROOF_BYTES = 1 << 18


@dataclass(slots=True)
class OpenIntent:
    """Where the record of a request under way stands, and its last checkpoint, as a record."""

    segment: Segment
    start: int
    length: int
    checkpoint: bytes | None = None


class Log:
    """Appends records; segments go, oldest first, once all their receipts are shipped.

    Intents still open in a segment that may go are carried forward, so an intent never outlives its receipt.
    Every method that writes raises OSError when the record could not be written whole; nothing of it remains then.
    """

    def __init__(
        self,
        home: Home,
        *,
        segment_bytes: int,
        reserve_bytes: int,
        on_trouble: Callable[[str], None],
        tail: Tail | None = None,
        unix_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`tail`: where shipped segments go; None: away. `unix_s`: the time."""
        self._home = home
        self._tail = tail
        self._unix_s = unix_s
        #: Shipped segments stay where they are: somebody reads them again.
        self.stays = False
        self._segment_bytes = segment_bytes
        self._on_trouble = on_trouble
        self._numbered = 0
        self.reserve = Reserve(home.path / RESERVE, size_bytes=reserve_bytes)
        self.open: dict[str, OpenIntent] = {}
        #: Receipts of dispatched requests that found no room, by request id: written as soon as there is some.
        self.owed: dict[str, bytes] = {}
        self.size_bytes = 0
        self.segments: deque[Segment] = deque()
        self.begin_segment()

    @property
    def name(self) -> str:
        return self._home.name

    @property
    def current(self) -> Segment:
        """The segment that is appended to."""
        return self.segments[-1]

    @property
    def unshipped(self) -> int:
        """Final receipts not yet shipped."""
        return sum(segment.unshipped for segment in self.segments)

    def intend(self, request_id: str, record: bytes) -> None:
        """Write an intent; it replaces an earlier one of the same request."""
        segment, start = self._append(record, must=False)
        self.open[request_id] = OpenIntent(segment, start, len(record))

    def checkpoint(self, request_id: str, record: bytes) -> None:
        """Write a checkpoint of a request that is open."""
        intent = self.open[request_id]
        self._append(record, must=False)
        intent.checkpoint = record

    def settle(self, request_id: str, record: bytes) -> Segment:
        """Write a receipt. For a request that is open the reserve may be spent, and a receipt that cannot be
        written even so is owed."""
        must = request_id in self.open
        try:
            segment = self.write_receipt(record, must=must)
        except OSError:
            if must:
                self.owed[request_id] = record
            raise
        if must:
            del self.open[request_id]
        return segment

    def write_receipt(self, record: bytes, *, must: bool = False) -> Segment:
        """Write a receipt, whether its request is open or not; `must` may spend the reserve."""
        segment, _ = self._append(record, must=must)
        segment.unshipped += 1
        return segment

    def pay_owed(self) -> Iterator[tuple[Segment, bytes]]:
        """Write what is owed, until a write fails."""
        for request_id, record in list(self.owed.items()):
            segment = self.settle(request_id, record)
            del self.owed[request_id]
            yield segment, record

    def retire(self, segments: Iterable[Segment]) -> None:
        """Never write these again, and keep the open intents in them in another segment, if that can be written."""
        retired = list(segments)
        for segment in retired:
            segment.retired = True
        with contextlib.suppress(OSError):
            if self.current.retired:
                self.begin_segment()
            for segment in retired:
                self._carry_forward(segment)

    def begin_segment(self) -> Segment:
        """A new current segment."""
        segment = Segment.begin(self._home.segment_path(self._numbered + 1))
        self._numbered += 1
        if self.segments and self.current.end == len(SEGMENT_HEADER) and not self.current.unsynced:
            self._delete(self.segments.pop())
        for older in self.segments:
            if not older.unsynced:
                older.rest()
        self.segments.append(segment)
        self.size_bytes += segment.end
        return segment

    def prove_room(self) -> None:
        """See that the disk takes a good many records, and give the room back. Raises OSError."""
        proof = Reserve(self._home.path / PROOF, size_bytes=_PROOF_BYTES)
        proof.hold()
        proof.release()

    def drop_shipped(self) -> None:
        """Delete the oldest segments as long as everything in them is shipped, and give an idle one's space back."""
        current = self.current
        if current.end > _WORTH_LEAVING_BYTES and not (current.unshipped or current.unsynced or self.open):
            with contextlib.suppress(OSError):
                self.begin_segment()
        while len(self.segments) > 1 and not self.stays:
            oldest = self.segments[0]
            if oldest.unshipped or oldest.unsynced or not self._carry_forward(oldest):
                return
            self._delete(self.segments.popleft())

    def close(self) -> None:
        """Let go of everything. What is not shipped, and every open intent, stays for the next process to adopt."""
        if not self.open and not self.unshipped:
            while self.segments:
                self._delete(self.segments.pop())
        for segment in self.segments:
            segment.rest()
        self.reserve.release()
        self._home.remove()

    def _append(self, record: bytes, *, must: bool) -> tuple[Segment, int]:
        segment = self.segments[-1]
        if segment.retired or segment.end + len(record) > self._segment_bytes:
            segment = self._rotated(segment)
        try:
            start = segment.append(record)
        except OSError as fault:
            if not (fault.errno in _NO_ROOM and self._tail is not None and self._tail.give_room()):
                segment, start = self._append_after(fault, record, must=must)
            else:
                segment, start = self._append_in_the_room(record, must=must)
        self.size_bytes += len(record)
        return segment, start

    def _rotated(self, full: Segment) -> Segment:
        try:
            return self.begin_segment()
        except OSError:
            if full.retired:
                raise
            return full

    def _append_in_the_room(self, record: bytes, *, must: bool) -> tuple[Segment, int]:
        try:
            if self.current.retired:
                self.begin_segment()
            return self.current, self.current.append(record)
        except OSError as fault:
            return self._append_after(fault, record, must=must)

    def _append_after(self, fault: OSError, record: bytes, *, must: bool) -> tuple[Segment, int]:
        if fault.errno in _NO_ROOM:
            if not (must and self.reserve.release()):
                raise fault
            self._on_trouble(f"its disk is full ({fault.strerror}): free some space there")
        if fault.errno not in _NO_ROOM or self.current.retired:
            self.begin_segment()
        segment = self.current
        return segment, segment.append(record)

    def _carry_forward(self, segment: Segment) -> bool:
        """Write the intents that are open in a segment into the current one; False when they have to stay."""
        staying = [(request_id, intent) for request_id, intent in self.open.items() if intent.segment is segment]
        if sum(intent.length for _, intent in staying) > self._segment_bytes // 4:
            return False
        try:
            for request_id, intent in staying:
                record = segment.read(intent.start, intent.length)
                if record_at(record, 0) is None:
                    return False
                self.intend(request_id, record)
                if intent.checkpoint is not None:
                    self.checkpoint(request_id, intent.checkpoint)
        except OSError:
            return False
        return True

    def _delete(self, segment: Segment) -> None:
        self.size_bytes -= segment.end
        with contextlib.suppress(OSError):  # what stays is only sent again
            if self._tail is None:
                segment.delete()
            else:
                self._tail.put_by(segment, at_s=self._unix_s())
