"""A history of policies in memory that behaves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from app.ports import BooksAway, Pin, Revision

_BEGINNING = re.compile(r"[0-9a-f]{4,}")


class MemoryPolicyHistory:
    """`ports.PolicyHistory`. `away = True` takes it away."""

    def __init__(self) -> None:
        self._revisions: dict[str, Revision] = {}
        self._pin: Pin | None = None
        self.away = False

    async def remember(self, revision: Revision) -> bool:
        self._answer_or_be_away()
        known = self._revisions.get(revision.digest)
        if known is None:
            self._revisions[revision.digest] = replace(revision, files=dict(revision.files))
            return True
        moments = [at for at in (known.in_force_at_s, revision.in_force_at_s) if at is not None]
        self._revisions[revision.digest] = replace(known, in_force_at_s=min(moments, default=None))
        return False

    async def find(self, digest: str) -> Revision | None:
        self._answer_or_be_away()
        if _BEGINNING.fullmatch(digest) is None:
            return None
        exact = self._revisions.get(digest)
        fitting = [one for name, one in self._revisions.items() if name.startswith(digest)]
        return exact or (fitting[0] if len(fitting) == 1 else None)

    async def latest(self, *, most: int) -> Sequence[Revision]:
        self._answer_or_be_away()
        remembered_last_first = list(reversed(self._revisions.values()))
        by_time = sorted(remembered_last_first, key=lambda one: -one.seen_at_s)
        return tuple(by_time[: max(most, 0)])

    async def pin(self, pin: Pin) -> None:
        self._answer_or_be_away()
        if pin.digest not in self._revisions:
            raise KeyError(pin.digest)
        self._pin = pin

    async def release(self) -> bool:
        self._answer_or_be_away()
        was_pinned, self._pin = self._pin is not None, None
        return was_pinned

    async def pinned(self) -> Pin | None:
        self._answer_or_be_away()
        return self._pin

    def _answer_or_be_away(self) -> None:
        if self.away:
            raise BooksAway("the books are away: try again")
