"""What the caller of one stream has been told, choice by choice, whichever targets told it.

Fed what a target says, it answers what of that is new to the caller. A second target that answers anew has to say what
the first one said, to the letter, before anything of it is new.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

#: Characters that are kept of an answer, all choices together; a longer one cannot be recovered any more.
KEPT_MOST_CHARS: Final = 256 * 1024
#: Choices and members that are kept apart.
KEPT_MOST_TEXTS: Final = 512

#: The member that a chat's text stands in, and the one of a completion.
CONTENT: Final = "content"
TEXT: Final = "text"


@dataclass(slots=True, kw_only=True)
class Said:
    """What one event adds to one choice. One is made for each event, so it is not frozen.

    `texts` by the member that holds them; `opaque`: there is more in it than text, which cannot be compared or cut (a
    tool call, a sound, log probabilities).
    """

    index: int
    texts: Mapping[str, str] = field(default_factory=dict)
    finish: str | None = None
    opaque: bool = False


class News(Enum):
    """What of one choice's part of an event is new to the caller."""

    ALL = "all"
    NOTHING = "nothing"
    #: It is not what the caller was told: this answer cannot go to this caller.
    UNLIKE = "unlike"


@dataclass(frozen=True, slots=True)
class Rest:
    """Some of it: of each member this text, and whatever else stands in the event."""

    texts: Mapping[str, str]


class Telling:
    """One stream's. What the first attempt says is all new; before each further one call `begin_anew` or `go_on`."""

    __slots__ = ("_finished", "_is_first", "_size", "_texts", "opaque", "overflowed")

    def __init__(self) -> None:
        self._is_first = True
        self._texts: dict[tuple[int, str], _Text] = {}
        self._finished: dict[int, str] = {}
        self._size = 0
        #: The caller was told something that cannot be compared.
        self.opaque = False
        #: It was told more than is kept.
        self.overflowed = False

    @property
    def is_behind(self) -> bool:
        """This attempt has not yet said all that the caller was told."""
        return any(text.left for text in self._texts.values())

    @property
    def plain_text(self) -> str | None:
        """All that the caller was told, where that is the text of one unfinished choice and nothing else."""
        if self.opaque or self.overflowed or self._finished or len(self._texts) != 1:
            return None
        ((index, member),) = self._texts
        if index != 0 or member not in {CONTENT, TEXT}:
            return None
        return self._texts[index, member].whole

    def begin_anew(self) -> None:
        """The next attempt answers from the beginning."""
        self._is_first = False
        for text in self._texts.values():
            text.keep(reproduced=0)

    def go_on(self) -> None:
        """The next attempt says what follows."""
        self._is_first = False
        for text in self._texts.values():
            text.keep(reproduced=None)

    def hear(self, said: Said) -> News | Rest:
        """An event of the attempt under way. What is new in it counts as told."""
        if self._is_first:
            self._keep(said, said.texts)
            return News.ALL
        rests = self._rests(said)
        if rests is None or not self._may_follow(said, rests):
            return News.UNLIKE
        is_end = said.finish is not None and said.index not in self._finished
        self._keep(said, rests)
        if not (is_end or said.opaque or any(rests.values())):
            return News.NOTHING
        return News.ALL if rests == said.texts else Rest(rests)

    def _rests(self, said: Said) -> dict[str, str] | None:
        """What of its texts is new; None: they are not what was told."""
        rests = {}
        for member, written in said.texts.items():
            text = self._texts.get((said.index, member))
            rest = written if text is None else text.rest_of(written)
            if rest is None:
                return None
            rests[member] = rest
        return rests

    def _may_follow(self, said: Said, rests: Mapping[str, str]) -> bool:
        """A choice ends once, in one way; and nothing new comes before all that was told of it, in every member, was
        said. What is no text is never cut."""
        is_new = said.opaque or any(rests.values())
        ended = self._finished.get(said.index)
        if ended is not None:
            return not is_new and said.finish in {None, ended}
        if said.opaque and rests != said.texts:
            return False
        return not (is_new or said.finish is not None) or all(
            text.left <= len(said.texts.get(member, ""))
            for (index, member), text in self._texts.items()
            if index == said.index
        )

    def _keep(self, said: Said, rests: Mapping[str, str]) -> None:
        self.opaque = self.opaque or said.opaque
        if said.finish is not None:
            self._finished[said.index] = said.finish
        for member, rest in rests.items():
            text = self._texts.get((said.index, member))
            if text is not None:
                text.reproduced += len(said.texts[member]) - len(rest)
            if not rest or self.overflowed:
                continue
            if text is None:
                text = self._texts[said.index, member] = _Text()
            text.fresh.append(rest)
            self._size += len(rest)
            self.overflowed = self._size > KEPT_MOST_CHARS or len(self._texts) > KEPT_MOST_TEXTS
        if self.overflowed:
            for text in self._texts.values():
                text.fresh.clear()


class _Text:
    """One member of one choice: what earlier attempts told, how much of that this one has said, what it added."""

    __slots__ = ("fresh", "reproduced", "told")

    def __init__(self) -> None:
        self.told = ""
        self.reproduced = 0
        self.fresh: list[str] = []

    @property
    def whole(self) -> str:
        return self.told + "".join(self.fresh)

    @property
    def left(self) -> int:
        return len(self.told) - self.reproduced

    def keep(self, *, reproduced: int | None) -> None:
        self.told, self.fresh = self.whole, []
        self.reproduced = len(self.told) if reproduced is None else reproduced

    def rest_of(self, written: str) -> str | None:
        """What of it is new; None: it is not what was told."""
        overlap = min(self.left, len(written))
        if overlap and not self.told.startswith(written[:overlap], self.reproduced):
            return None
        return written[overlap:]
