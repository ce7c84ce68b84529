"""The spool's bytes, without any file: framing a record, and finding records again in bytes that may be damaged.

    segment   "BREAKEVEN-SPOOL" 0x01, then records
    record    | FE FF | kind | id bytes | payload bytes | body CRC | header CRC | request id | payload |
                2       1      1          4 (LE)          4 (LE)     4 (LE)       id bytes     payload bytes

Both checks are CRC32C: the body's covers request id and payload, the header's the 12 bytes before it. A header that is
whole while its body is cut off is therefore told apart from a length that lies. FE and FF never occur in UTF-8, so a
search for the next record after damage does not stop inside a payload.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

import google_crc32c

SEGMENT_HEADER = b"BREAKEVEN-SPOOL\x01"
RECORD_MAGIC = b"\xfe\xff"

_HEAD = Struct("<2sBBII")
_CHECKED_HEAD = Struct("<2sBBIII")
_HEAD_BYTES = _HEAD.size
#: Bytes of a record before its request id.
HEADER_BYTES = _CHECKED_HEAD.size


class Kind(IntEnum):
    """What a record says."""

    INTENT = 1
    CHECKPOINT = 2
    RECEIPT = 3


_KINDS = frozenset(kind.value for kind in Kind)
_RECEIPT = Kind.RECEIPT.value


class Whole(NamedTuple):
    """A record whose checks hold. All places count from the start of the buffer it was found in."""

    kind: int
    start: int
    payload_at: int
    end: int

    def request_id(self, buffer: bytes) -> str:
        return buffer[self.start + HEADER_BYTES : self.payload_at].decode()

    def payload(self, buffer: bytes) -> bytes:
        return buffer[self.payload_at : self.end]


class Unreadable(NamedTuple):
    """A stretch that holds no record. `torn`: it ends the buffer and is the beginning of a record (or was never
    written at all), as a write that was cut short leaves it; otherwise something that stood there was damaged."""

    start: int
    end: int
    torn: bool


def framed(kind: Kind, request_id: str, payload: bytes) -> bytes:
    """The record, ready to be written in one go. `request_id` has 1 to 255 bytes of UTF-8."""
    name = request_id.encode()
    body = name + payload
    head = _HEAD.pack(RECORD_MAGIC, kind, len(name), len(payload), google_crc32c.value(body))
    return b"".join((head, google_crc32c.value(head).to_bytes(4, "little"), body))


def first_record_at(segment: bytes) -> int:
    """Where the records of a segment begin. 0 when its header is damaged: the scan then reports those bytes."""
    if segment.startswith(SEGMENT_HEADER):
        return len(SEGMENT_HEADER)
    return len(segment) if SEGMENT_HEADER.startswith(segment) else 0


def scan(buffer: bytes, *, start: int = 0) -> Iterator[Whole | Unreadable]:
    """Everything from `start` to the end of the buffer, in order and without a gap. Never raises."""
    at = start
    while at < len(buffer):
        record = record_at(buffer, at)
        if record is not None:
            yield record
            at = record.end
            continue
        resumed_at = _next_record_at(buffer, at + 1)
        yield Unreadable(at, resumed_at, torn=resumed_at == len(buffer) and _looks_torn(buffer, at))
        at = resumed_at


def take_receipts(buffer: bytes, *, receipts: list[bytes], most: int) -> int:
    """From the start of the buffer, add the payloads of receipts until there are `most`, or until something stands
    there that is no whole record. Returns the place behind the last whole record. What `scan` finds, only faster: every
    byte that is shipped passes here."""
    at, size = 0, len(buffer)
    unpack, check = _CHECKED_HEAD.unpack_from, google_crc32c.value
    while at + HEADER_BYTES <= size:
        magic, kind, name_bytes, payload_bytes, body_check, head_check = unpack(buffer, at)
        name_at = at + HEADER_BYTES
        payload_at = name_at + name_bytes
        end = payload_at + payload_bytes
        if magic != RECORD_MAGIC or end > size or kind not in _KINDS:
            break
        if check(buffer[at : at + _HEAD_BYTES]) != head_check or check(buffer[name_at:end]) != body_check:
            break
        at = end
        if kind == _RECEIPT:
            receipts.append(buffer[payload_at:end])
            if len(receipts) == most:
                break
    return at


def record_at(buffer: bytes, at: int) -> Whole | None:
    """The record that begins exactly here; None unless both its checks hold."""
    extent = _extent(buffer, at)
    if extent is None:
        return None
    kind, payload_at, end, body_check = extent
    if end > len(buffer) or google_crc32c.value(buffer[at + HEADER_BYTES : end]) != body_check:
        return None
    return Whole(kind, at, payload_at, end)


def _extent(buffer: bytes, at: int) -> tuple[int, int, int, int] | None:
    if at + HEADER_BYTES > len(buffer):
        return None
    magic, kind, name_bytes, payload_bytes, body_check, head_check = _CHECKED_HEAD.unpack_from(buffer, at)
    if magic != RECORD_MAGIC or google_crc32c.value(buffer[at : at + _HEAD_BYTES]) != head_check:
        return None
    if kind not in _KINDS:
        return None
    payload_at = at + HEADER_BYTES + name_bytes
    return kind, payload_at, payload_at + payload_bytes, body_check


def _next_record_at(buffer: bytes, at: int) -> int:
    while (at := buffer.find(RECORD_MAGIC, at)) >= 0:
        if record_at(buffer, at) is not None:
            return at
        at += 1
    return len(buffer)


def _looks_torn(buffer: bytes, at: int) -> bool:
    rest = buffer[at : at + HEADER_BYTES]
    if len(rest) < HEADER_BYTES and RECORD_MAGIC.startswith(rest[: len(RECORD_MAGIC)]):
        return True
    extent = _extent(buffer, at)
    if extent is not None:
        return extent[2] > len(buffer)
    return buffer.count(0, at) == len(buffer) - at
