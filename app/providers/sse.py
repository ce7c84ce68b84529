"""Server-sent events, without any I/O: bytes in, whole events out, their bytes unchanged.

An event is everything up to and including the blank line that ends it, as HTML's event stream format defines it: lines
end with LF, CRLF or CR. A read that holds exactly one event, which is what engines send, passes through uncopied.
"""

from __future__ import annotations

import re
from typing import Final

#: One event larger than this is no chunk of text; the stream is given up.
EVENT_MOST_BYTES: Final = 1024 * 1024

_BOM: Final = b"\xef\xbb\xbf"
_BLANK_LINE: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
#: A blank line that was cut began at most this many bytes before the cut.
_LOOK_BACK: Final = 3
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class EventTooLarge(ValueError):
    """An event grew over EVENT_MOST_BYTES."""


class EventSplitter:
    """Cuts a stream into its events, however it was segmented. The events joined are the stream, less a leading BOM.

    A carriage return at the very end of what came may be half a line end: it waits for the next byte.
    """

    __slots__ = ("_at_start", "_held")

    def __init__(self) -> None:
        self._held = bytearray()
        self._at_start = True

    def feed(self, received: bytes) -> list[bytes]:
        """The events that are whole now. Raises EventTooLarge."""
        if not self._held and not self._at_start and len(received) <= EVENT_MOST_BYTES:
            blank_line = _only_blank_line(received)
            if blank_line is not None:
                *events, rest = received.split(blank_line)
                if len(events) == 1 and not rest:
                    return [received]
                self._held += rest
                return [event + blank_line for event in events]
        return self._split(received)

    def rest(self) -> bytes:
        """At the end of the stream: what came after the last whole event."""
        rest = bytes(self._held)
        self._held.clear()
        return rest

    def _split(self, received: bytes) -> list[bytes]:
        held = self._held
        looked_at = max(0, len(held) - _LOOK_BACK)
        held += received
        if self._at_start:
            if len(held) < len(_BOM) and _BOM.startswith(held):
                return []
            self._at_start = False
            if held.startswith(_BOM):
                del held[: len(_BOM)]
            looked_at = 0
        until = len(held) - 1 if held.endswith(b"\r") else len(held)
        ends = [blank.end() for blank in _BLANK_LINE.finditer(held, looked_at, until)]
        events = [bytes(held[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]
        if ends:
            del held[: ends[-1]]
        if len(held) > EVENT_MOST_BYTES or any(len(event) > EVENT_MOST_BYTES for event in events):
            raise EventTooLarge(f"an event is larger than {EVENT_MOST_BYTES} bytes")
        return events


def _only_blank_line(received: bytes) -> bytes | None:
    """How blank lines are spelled here, if all line ends are of one kind and none is a lone CR."""
    returns = received.count(b"\r")
    if returns == 0:
        return b"\n\n"
    return b"\r\n\r\n" if returns == received.count(b"\n") == received.count(b"\r\n") else None


def payload(event: bytes) -> bytes | None:
    """The data of an event, its lines joined by LF; None when it has none (a comment, a blank line)."""
    lines = [line for line in _LINE_END.split(event) if line.startswith(b"data")]
    if len(lines) == 1 and lines[0].startswith(b"data: "):
        return lines[0][6:]
    datas = [_value(line) for line in lines if line[4:5] in (b":", b"")]
    return b"\n".join(datas) if datas else None


def _value(line: bytes) -> bytes:
    said = line[5:]
    return said[1:] if said.startswith(b" ") else said
