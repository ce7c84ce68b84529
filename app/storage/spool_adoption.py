"""Replay of what a dead process left: its receipts are shipped as they are, and every intent without a receipt becomes
a receipt whose outcome is `interrupted`. Nothing is written into an adopted home but how far it has been shipped, so a
second replay, after the adopter died too, finds the same again; booking is idempotent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.usage import UsageSource
from app.storage import receipt_json
from app.storage.spool_format import Kind, Unreadable, first_record_at, scan
from app.storage.spool_home import Home
from app.storage.spool_quarantine import Quarantine
from app.storage.spool_segment import Batch, Segment, is_lost

#: Making a receipt from an intent takes tens of microseconds on the loop's thread, so few are made at a time.
_MADE_AT_ONCE = 100
#: About the most bytes of a segment that are read for one shipment.
_PART_BYTES = 1 << 20


class Checkpoint(msgspec.Struct, frozen=True):
    """The running attempt's figures, as a checkpoint's payload spells them."""

    output_tokens: int
    charge: int


class Part(NamedTuple):
    """Receipts of one shipment. `segment` None: they are made from intents."""

    receipts: list[bytes]
    segment: Segment | None
    start: int
    upto: int


class Interrupted(NamedTuple):
    """An intent without a receipt: where its payload stands, and the last checkpoint's payload."""

    segment: Segment
    payload_at: int
    end: int
    checkpoint: bytes | None = None


class Orphan:
    """An adopted home. Real receipts leave before interrupted ones, so that a real one always wins."""

    def __init__(self, home: Home, quarantine: Quarantine) -> None:
        """Reads every segment once. Raises OSError when that is not possible now, or damage could not be put aside."""
        self.home = home
        #: Records cut off at the end of a segment, and stretches put into quarantine now.
        self.torn = 0
        self.damaged = 0
        self._quarantine = quarantine
        self._segments: list[Segment] = []
        open_intents: dict[str, Interrupted] = {}
        for path in home.segment_paths():
            try:
                content = path.read_bytes()
            except OSError as fault:
                if not is_lost(fault):
                    raise
                quarantine.keep_unreadable(path, home=home.name)
                continue
            self._replay(path, content, open_intents)
        self._interrupted = list(open_intents.values())
        self._interrupted_shipped = 0

    @property
    def remaining(self) -> int:
        """Receipts still to be shipped."""
        return sum(segment.unshipped for segment in self._segments) + self.interrupted

    @property
    def interrupted(self) -> int:
        """Those of them that are made from intents."""
        return len(self._interrupted) - self._interrupted_shipped

    @property
    def size_bytes(self) -> int:
        """What its segments hold."""
        return sum(segment.end for segment in self._segments)

    async def next_part(self, *, most: int) -> Part | None:
        """The oldest receipts not yet shipped; None when all are. Raises OSError as the constructor does."""
        for segment in self._segments:
            part = await segment_part(segment, most=most, home=self.home.name, quarantine=self._quarantine)
            if part is not None:
                return part
        return self._interrupted_part(most=most)

    def shipped(self, part: Part) -> None:
        """These are in Postgres. A part that is no longer the oldest is ignored."""
        if part.segment is not None:
            segment_shipped(part)
        elif part.start == self._interrupted_shipped:
            self._interrupted_shipped = part.upto

    def part_with_segments(self, part_with: Callable[[Segment], None]) -> None:
        """Everything is shipped: the files go, oldest first. The home stays, for what else is kept under its name.
        What cannot go is adopted and sent again some time."""
        with contextlib.suppress(OSError):
            for segment in self._segments:
                part_with(segment)

    def _replay(self, path: Path, content: bytes, open_intents: dict[str, Interrupted]) -> None:
        segment = Segment.left_behind(path, end=len(content))
        self._segments.append(segment)
        for found in scan(content, start=first_record_at(content)):
            if isinstance(found, Unreadable):
                self._set_aside(segment, content, found)
                continue
            request_id = found.request_id(content)
            if found.kind == Kind.RECEIPT:
                open_intents.pop(request_id, None)
                segment.unshipped += found.start >= segment.shipped_to
            elif found.kind == Kind.INTENT:
                open_intents[request_id] = Interrupted(segment, found.payload_at, found.end)
            elif request_id in open_intents:
                open_intents[request_id] = open_intents[request_id]._replace(checkpoint=found.payload(content))

    def _set_aside(self, segment: Segment, content: bytes, found: Unreadable) -> None:
        if found.torn:
            segment.end = found.start
            self.torn += 1
            return
        damaged = content[found.start : found.end]
        self.damaged += self._quarantine.keep_damaged(
            damaged, home=self.home.name, segment=segment.path.stem, at=found.start
        )
        if found.start <= segment.shipped_to < found.end:
            segment.shipped_to = found.end

    def _interrupted_part(self, *, most: int) -> Part | None:
        start = self._interrupted_shipped
        receipts: list[bytes] = []
        while len(receipts) < min(most, _MADE_AT_ONCE) and start + len(receipts) < len(self._interrupted):
            place = start + len(receipts)
            receipt = self._made_receipt(self._interrupted[place])
            if receipt is None:
                del self._interrupted[place]
            else:
                receipts.append(receipt)
        return Part(receipts, None, start, start + len(receipts)) if receipts else None

    def _made_receipt(self, intent: Interrupted) -> bytes | None:
        payload = b""
        try:
            payload = intent.segment.read(intent.payload_at, intent.end - intent.payload_at)
            return as_interrupted(payload, checkpoint=intent.checkpoint)
        except (OSError, ValueError) as fault:
            if isinstance(fault, OSError) and not is_lost(fault):
                raise
            self._quarantine.keep_rejected(payload, home=self.home.name, reason=f"intent of a dead process: {fault}")
            return None


async def segment_part(segment: Segment, *, most: int, home: str, quarantine: Quarantine) -> Part | None:
    """The oldest receipts of a segment that are not yet shipped, at most `most` and about a mebibyte; None when there
    are none (left). What is damaged, or the whole segment if the disk does not give it back, is put aside. Raises
    OSError when that cannot be done."""
    receipts: list[bytes] = []
    at = segment.shipped_to
    while len(receipts) < min(most, segment.unshipped) and at - segment.shipped_to < _PART_BYTES:
        try:
            batch = segment.receipts_from(at, most=most - len(receipts))
        except OSError as fault:
            if not is_lost(fault):
                raise
            quarantine.keep_unreadable(segment.path, home=home)
            segment.retired, segment.unshipped = True, 0
            return None
        _put_aside(batch, segment, home=home, quarantine=quarantine)
        receipts += batch.receipts
        at = batch.upto
        if batch.finished:
            segment.unshipped = len(receipts)
        if not receipts:
            segment.shipped_to = at
        await asyncio.sleep(0)
    return Part(receipts, segment, segment.shipped_to, at) if receipts else None


def segment_shipped(part: Part) -> None:
    """Remember it. A part that is no longer the oldest of its segment is ignored, and so sent again."""
    if part.segment is not None and part.start == part.segment.shipped_to:
        part.segment.shipped(upto=part.upto, receipts=len(part.receipts))


def as_interrupted(intent: bytes, *, checkpoint: bytes | None) -> bytes:
    """The receipt of a request whose process died. The intent is the receipt as it was to be booked then; the last
    checkpoint knows more of its last attempt. Two that were open at once may stand in any order there; they are booked
    in that of their numbers. Raises ValueError when the JSON is no receipt."""
    receipt = receipt_json.decode(intent)
    if not receipt.attempts:
        return receipt_json.encode(replace(receipt, outcome=Outcome.INTERRUPTED))
    last = replace(receipt.attempts[-1], outcome=Outcome.INTERRUPTED)
    figures = None if checkpoint is None else _figures(checkpoint)
    if figures is not None:
        last = replace(
            last,
            usage=replace(last.usage, output=figures.output_tokens),
            usage_source=UsageSource.CHECKPOINT,
            charge=Nanodollars(figures.charge),
        )
    attempts = tuple(sorted((*receipt.attempts[:-1], last), key=lambda each: each.number))
    return receipt_json.encode(replace(receipt, outcome=Outcome.INTERRUPTED, attempts=attempts))


def _figures(checkpoint: bytes) -> Checkpoint | None:
    try:
        return _CHECKPOINT.decode(checkpoint)
    except msgspec.DecodeError:  # written by another version: the intent's own estimate stands
        return None


def _put_aside(batch: Batch, segment: Segment, *, home: str, quarantine: Quarantine) -> None:
    for stretch in batch.unreadable:
        damaged = segment.read(stretch.start, stretch.end - stretch.start)
        quarantine.keep_damaged(damaged, home=home, segment=segment.path.stem, at=stretch.start)


_CHECKPOINT = msgspec.json.Decoder(Checkpoint)
