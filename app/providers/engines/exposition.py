"""Prometheus' text format, read for a few wanted names only. No I/O, and no trust: bytes in, samples out.

A page of vLLM has some thousand lines, and it is read several times a second: a line that nobody wants costs the search
for the end of its name, and is never looked into.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Final

#: A page larger than this, or with more lines, is not believed at all: half of the ranks would look like all of them.
MOST_BYTES: Final = 4 * 1024 * 1024
MOST_LINES: Final = 100_000
#: A longer line is broken.
LINE_MOST_BYTES: Final = 64 * 1024

_TOTAL: Final = b"_total"
#: Name, labels, number; then a timestamp or an exemplar, which nobody needs.
_SAMPLE: Final = re.compile(
    rb"[a-zA-Z_:][a-zA-Z0-9_:]*[ \t]*"
    rb'(?:\{((?:[^"{}]++|"(?:[^"\\]++|\\.)*+")*+)\}[ \t]*)?'
    rb"(?<=[}\s])([^\s_{}\"]+)(?:[ \t]+-?\d+)?[ \t\r]*(?:#.*)?"
)
_LABELS: Final = re.compile(rb'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]++|\\.)*+)"\s*(?:,|$)')
_ESCAPES: Final = {b"\\\\": b"\\", b'\\"': b'"', b"\\n": b"\n"}
_ESCAPE: Final = re.compile(rb"\\[\\\"n]")


class ExpositionTooLarge(Exception):
    """The page is over its limits. The message is half a sentence."""


class Exposition:
    """Fed a page's bytes, tells the samples of the wanted metrics. `brands` are beginnings of names to look out for."""

    __slots__ = ("_brands", "_bytes", "_lines", "_series", "_tail", "_wanted", "broken_lines", "seen_brands")

    def __init__(self, wanted: Iterable[str], *, brands: Iterable[str] = ()) -> None:
        #: As it may stand there → as it is wanted: a counter's `_total` may be there or not.
        self._wanted = _spelled(wanted)
        self._brands = tuple(sorted({brand.encode() for brand in brands}))
        self._series: dict[str, dict[bytes, dict[bytes, float]]] = {}
        self._tail = b""
        self._bytes = 0
        self._lines = 0
        #: Lines of wanted metrics that make no sense.
        self.broken_lines = 0
        self.seen_brands: set[str] = set()

    def feed(self, received: bytes) -> None:
        """Raises ExpositionTooLarge; then nothing of the page may be used."""
        self._bytes += len(received)
        if self._bytes > MOST_BYTES:
            raise ExpositionTooLarge(f"has more than {MOST_BYTES} bytes")
        whole = self._tail + received
        lines = whole.split(b"\n")
        self._tail = lines.pop()
        self._take(lines, is_airy=b"\t" in whole or b" {" in whole)

    def end(self) -> None:
        """The page is whole. A last line without its line feed counts."""
        tail, self._tail = self._tail, b""
        self._take([tail], is_airy=True)

    def samples(self, name: str) -> Mapping[bytes, float]:
        """The samples of a wanted metric by their labels, as they stand there; NaN and infinities are not there. Of one
        that is told under both spellings, those of the one that was asked for."""
        spellings = self._series.get(name, {})
        return spellings.get(name.encode()) or next(iter(spellings.values()), {})

    def has(self, name: str) -> bool:
        """A sample of it was there, if only one that is no number."""
        return name in self._series

    def _take(self, lines: list[bytes], *, is_airy: bool) -> None:
        """`is_airy`: a name may end otherwise than with one blank or a brace. Nobody writes so, and everybody may."""
        self._lines += len(lines)
        if self._lines > MOST_LINES:
            raise ExpositionTooLarge(f"has more than {MOST_LINES} lines")
        wanted, brands = self._wanted, self._brands
        for line in lines:
            end = line.find(b"{")
            if end < 0:
                end = line.find(b" ")
            name = line[:end] if end >= 0 else line
            asked = wanted.get(name)
            if asked is None and is_airy:
                name = name.split(None, 1)[0] if name.strip() else name
                asked = wanted.get(name)
            if asked is not None:
                self._sample(asked, name, line)
            if brands and line.startswith(brands):
                self.seen_brands.update(brand.decode() for brand in brands if line.startswith(brand))

    def _sample(self, asked: str, name: bytes, line: bytes) -> None:
        found = _SAMPLE.fullmatch(line) if len(line) <= LINE_MOST_BYTES else None
        number = None if found is None else _number(found[2])
        if found is None or number is None:
            self.broken_lines += 1
            return
        of_name = self._series.setdefault(asked, {}).setdefault(name, {})
        if math.isfinite(number):
            of_name[found[1] or b""] = number


def labels_of(text: bytes) -> dict[str, str]:
    """Labels as they stand between braces; what cannot be read is left out."""
    return {
        found[1].decode("ascii"): _ESCAPE.sub(lambda escape: _ESCAPES[escape[0]], found[2]).decode("utf-8", "replace")
        for found in _LABELS.finditer(text)
    }


def _spelled(wanted: Iterable[str]) -> Mapping[bytes, str]:
    spelled: dict[bytes, str] = {}
    for name in wanted:
        exact = name.encode()
        spelled.setdefault(exact.removesuffix(_TOTAL) if exact.endswith(_TOTAL) else exact + _TOTAL, name)
    spelled.update({name.encode(): name for name in wanted})
    return spelled


def _number(text: bytes) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
