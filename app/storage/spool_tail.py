"""The tail of the spool: segments that were shipped a moment ago, kept for a server that may turn out to lack them.

A standby that copies with a delay takes its primary's place without the primary's last commits. Each process puts the
segments that it is done with on a shelf of its own, beside what it writes, with the name of the server they went to:

    spool/tail/HOME/server           which server has all of this; absent: nobody knows
    spool/tail/HOME/00000001.seg     a segment, as it was written; its time is when it was put there
    spool/tail/HOME/made-0001.seg    receipts that were made of intents without one, when they were shipped

They go once that server has led for so long after they were shipped. If another one leads, they are sent to that, and
so is what was shipped of the segments still in use; a receipt that is there already changes nothing. The shelves of
processes that are gone are looked after by those that live. The tail is a precaution, and in nobody's way: it has a
bound, and a disk that is full gets its room.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

from app.storage.spool_adoption import Part
from app.storage.spool_format import SEGMENT_HEADER, Kind, framed
from app.storage.spool_home import HOMES
from app.storage.spool_segment import SEGMENT_SUFFIX, Segment, is_lost

TAIL: Final = "tail"
_SERVER: Final = "server"
_MADE: Final = "made-"
#: About the most bytes that are read for one shipment.
_PART_BYTES: Final = 1 << 20


class Stretch(NamedTuple):
    """What was shipped of a segment."""

    segment: Segment
    upto: int


class Again:
    """What went to a server that leads no more, on its way to the one that does. `done` is called at its end."""

    def __init__(self, stretches: list[Stretch], *, done: Callable[[], None]) -> None:
        self._stretches = stretches
        self._at = len(SEGMENT_HEADER)
        self._done = done

    async def next_part(self, *, most: int) -> Part | None:
        """The next receipts, at most `most`; the same until they are `shipped`; None when all are. Raises OSError when
        they cannot be read now; a segment that is gone is passed over."""
        while self._stretches:
            stretch = self._stretches[0]
            receipts: list[bytes] = []
            at = self._at
            try:
                while at < stretch.upto and len(receipts) < most and at - self._at < _PART_BYTES:
                    batch = stretch.segment.receipts_from(at, most=most - len(receipts))
                    receipts += batch.receipts
                    at = stretch.upto if batch.finished or batch.upto <= at else batch.upto
                    await asyncio.sleep(0)
            except OSError as fault:
                if not is_lost(fault):
                    raise
                at = stretch.upto
            if receipts:
                return Part(receipts, stretch.segment, self._at, at)
            self._go_on(at)
        return None

    def shipped(self, part: Part) -> None:
        """These are in Postgres. A part that is not the next is ignored."""
        if self._stretches and (part.segment, part.start) == (self._stretches[0].segment, self._at):
            self._go_on(part.upto)

    def _go_on(self, at: int) -> None:
        self._at = at
        if at >= self._stretches[0].upto:
            self._stretches.pop(0)
            self._at = len(SEGMENT_HEADER)
        if not self._stretches:
            self._done()


class Tail:
    """The shelves below one spool, as the process of one home sees them. Nothing here raises OSError: a tail that
    cannot be kept is shorter."""

    def __init__(self, spool: Path, home: str, *, kept_s: float, most_bytes: int) -> None:
        """`kept_s` 0: nothing is kept."""
        self._spool = spool
        self._home = home
        self._kept_s = kept_s
        self._most_bytes = most_bytes

    def put_by(self, segment: Segment, *, at_s: float, home: str | None = None) -> None:
        """The segment is shipped to its end, and is no part of the spool any more. `home`: of whose, if not ours.
        `at_s` is Unix time."""
        if not self._kept_s or segment.end <= len(SEGMENT_HEADER):
            segment.delete()
            return
        shelf = self._shelf(home or self._home)
        segment.rest()
        with contextlib.suppress(OSError):
            shelf.mkdir(mode=0o700, parents=True, exist_ok=True)
            segment.path.rename(shelf / segment.path.name)
            os.utime(shelf / segment.path.name, (at_s, at_s))
        segment.delete()
        self._shorten()

    def keep_made(self, receipts: Sequence[bytes], *, at_s: float, home: str) -> None:
        """These are shipped, and stand in no segment: they were made of the intents of a process that is gone. A second
        call with the same is only sent twice. `at_s` is Unix time."""
        if not self._kept_s:
            return
        shelf = self._shelf(home)
        with contextlib.suppress(OSError):
            shelf.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = Segment.begin(_free_name(shelf))
            try:
                made.append(b"".join(framed(Kind.RECEIPT, home, receipt) for receipt in receipts))
                os.utime(made.path, (at_s, at_s))
            except OSError:
                made.delete()
            made.rest()
        self._shorten()

    def server_is(self, server: str, *, at_s: float, live: Iterable[Segment]) -> Again | None:
        """This server leads at `at_s`, in Unix time. What has to be sent to it, because another did before, of our own
        (`live` are the segments in use) and of processes that are gone; None: nothing, and what is old has gone."""
        if not self._kept_s:
            return None
        own = self._shelf(self._home)
        stretches: list[Stretch] = []
        moved: list[Path] = []
        for shelf in [own, *self._shelves_of_the_gone()]:
            known = _server_of(shelf)
            if known == server:
                self._forget_old(shelf, at_s=at_s)
                continue
            moved.append(shelf)
            if shelf == own and known is None:
                continue  # it has shipped nothing before it asked
            stretches += _stretches(shelf)
            if shelf == own:
                stretches += [Stretch(segment, segment.shipped_to) for segment in live if _has_shipped(segment)]

        def done() -> None:
            for shelf in moved:
                _write_server(shelf, server)

        if stretches:
            return Again(stretches, done=done)
        done()
        return None

    def give_room(self) -> bool:
        """The disk is full: everything goes. False when there was nothing."""
        segments = self._segments()
        for path, _ in segments:
            with contextlib.suppress(OSError):
                path.unlink()
        return bool(segments)

    def _shelf(self, home: str) -> Path:
        return self._spool / TAIL / home

    def _shelves_of_the_gone(self) -> Iterator[Path]:
        """Of homes that are no more: before that, somebody may still put something there."""
        with contextlib.suppress(OSError):
            for shelf in sorted((self._spool / TAIL).iterdir()):
                if shelf.name != self._home and not (self._spool / HOMES / shelf.name).exists():
                    yield shelf

    def _segments(self) -> list[tuple[Path, os.stat_result]]:
        """On all shelves, the oldest first."""
        found = []
        with contextlib.suppress(OSError):
            for path in (self._spool / TAIL).glob(f"*/*{SEGMENT_SUFFIX}"):
                with contextlib.suppress(OSError):
                    found.append((path, path.stat()))
        return sorted(found, key=lambda each: (each[1].st_mtime, each[0]))

    def _shorten(self) -> None:
        segments = self._segments()
        size_bytes = sum(each.st_size for _, each in segments)
        for path, each in segments:
            if size_bytes <= self._most_bytes:
                return
            with contextlib.suppress(OSError):
                path.unlink()
            size_bytes -= each.st_size

    def _forget_old(self, shelf: Path, *, at_s: float) -> None:
        with contextlib.suppress(OSError):
            for path in shelf.glob(f"*{SEGMENT_SUFFIX}"):
                if path.stat().st_mtime < at_s - self._kept_s:
                    path.unlink()
            if shelf.name != self._home and not any(shelf.glob(f"*{SEGMENT_SUFFIX}")):
                (shelf / _SERVER).unlink(missing_ok=True)
                shelf.rmdir()


def _free_name(shelf: Path) -> Path:
    """Behind all numbers, so that a receipt as it was written is sent before one that was made."""
    names = (shelf / f"{_MADE}{number:04d}{SEGMENT_SUFFIX}" for number in count(1))
    return next(path for path in names if not path.exists())


def _has_shipped(segment: Segment) -> bool:
    return segment.shipped_to > len(SEGMENT_HEADER)


def _stretches(shelf: Path) -> list[Stretch]:
    found = []
    with contextlib.suppress(OSError):
        for path in sorted(shelf.glob(f"*{SEGMENT_SUFFIX}")):
            size = path.stat().st_size
            found.append(Stretch(Segment.left_behind(path, end=size), size))
    return found


def _server_of(shelf: Path) -> str | None:
    try:
        return (shelf / _SERVER).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _write_server(shelf: Path, server: str) -> None:
    fresh = shelf / f"{_SERVER}.new"
    with contextlib.suppress(OSError):
        shelf.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.write_text(server, encoding="utf-8")
        fresh.replace(shelf / _SERVER)
