"""From tokens to the text that may be shown: whole characters only, and nothing that may be part of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_WHOLE_CHARACTERS: Final = codecs.getincrementaldecoder("utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Text to show now. `stopped_by` is the stop string that ended the text, which is then complete."""

    text: str
    stopped_by: str | None = None


class StopHolder:
    """Holds back the end of a text while it may be the beginning of a stop string.

    With `include` the stop string itself is shown; without it the text ends before it. Where several end the text, the
    one that begins first counts, as if the text had been searched whole.
    """

    def __init__(self, stop: Sequence[str], *, include: bool = False) -> None:
        self._stop = tuple(stop)
        self._include = include
        self._held = ""

    def add(self, text: str, *, may_stop: bool = True) -> Shown:
        """`may_stop` False shows everything (an answer that must first reach its minimum length)."""
        self._held += text
        hit = self._first_hit() if may_stop else None
        if hit is not None:
            at, stop = hit
            shown = self._held[: at + len(stop)] if self._include else self._held[:at]
            self._held = ""
            return Shown(text=shown, stopped_by=stop)
        keep = self._held_back() if may_stop else 0
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return Shown(text=shown)

    def rest(self) -> str:
        """What is still held back, for when no more text will come."""
        held, self._held = self._held, ""
        return held

    def _first_hit(self) -> tuple[int, str] | None:
        hits = [(at, stop) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        return min(hits, key=lambda hit: (hit[0], self._stop.index(hit[1])), default=None)

    def _held_back(self) -> int:
        """The length of the longest end of the text that begins a stop string."""
        longest = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:length]):
                    longest = length
                    break
        return longest


class AnswerText:
    """The text of one answer, fed with the bytes of its tokens.

    A character whose bytes are not all there yet is held back; bytes that are no character at all show as U+FFFD.
    """

    def __init__(self, stop: Sequence[str] = (), *, include_stop: bool = False) -> None:
        self._characters = _WHOLE_CHARACTERS(errors="replace")
        self._holder = StopHolder(stop, include=include_stop)

    def add(self, token: bytes, *, may_stop: bool = True) -> Shown:
        return self._holder.add(self._characters.decode(token), may_stop=may_stop)

    def end(self) -> Shown:
        """The answer is over. A stop string may still be found in what the last bytes turned out to be."""
        shown = self._holder.add(self._characters.decode(b"", final=True))
        return shown if shown.stopped_by is not None else Shown(text=shown.text + self._holder.rest())
