"""When is it time to read the policy files? Looks and times are handed in; nothing here waits or reads.

A file that is being written is not read: two looks in a row must be alike. A look may not tell of every change (coarse
clocks, caching network volumes), so the files are read now and then in any case. Files that are not valid get a second
reading before they are refused, as half of an edit often is not.
"""

from __future__ import annotations

#: Between looks. A change is read after two or three of them.
LOOK_EVERY_S = 0.3
#: Files that look the same are read after this time all the same.
READ_EVERY_S = 1.5

_NEVER_LOOKED = object()


class ShelfWatch:
    """Say what was seen with `saw`, and what came of a reading with `took`, `torn` or `doubted`."""

    __slots__ = ("_doubted", "_last", "_read", "_read_at_s")

    def __init__(self) -> None:
        self._last: object = _NEVER_LOOKED
        self._read: object = _NEVER_LOOKED
        self._read_at_s = float("-inf")
        self._doubted: object = None

    def saw(self, look: object, *, at_s: float) -> bool:
        """True when the files should be read now: they are quiet, and may have changed since they were read last."""
        quiet = look == self._last
        self._last = look
        return quiet and (look != self._read or at_s - self._read_at_s >= READ_EVERY_S)

    def took(self, look: object, *, at_s: float) -> None:
        """The files were read, and what they say was taken up or refused for good."""
        self._read, self._read_at_s, self._doubted = look, at_s, None

    def torn(self, look: object) -> None:
        """They changed while they were read: what was read counts for nothing, and they must be quiet anew."""
        self._last, self._read, self._doubted = look, _NEVER_LOOKED, None

    def doubts(self, offer: object) -> bool:
        """True at the first reading of an offer that is not valid: it is to be read again, not refused yet."""
        if offer == self._doubted:
            return False
        self._doubted, self._read = offer, _NEVER_LOOKED
        return True
