"""The policies there are: on the shelf, in force, and every one before; each found by a word or by its digest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from app.documents.compile import Compiled, compile_policy, digest_of
from app.documents.price_lists import NO_CATALOGUE
from app.domain.errors import PolicyInvalid, RequestRejected
from app.domain.findings import Finding
from app.flows.policy_reload import last_in_force
from app.ports import Clock, LedgerBook, PolicyHistory, Revision, Shelf
from app.ports.prices import Catalogue

Result = TypeVar("Result")

#: Compiled policies that are kept at hand, the last ones asked for.
KEPT = 4
#: Revisions that a message about an unknown digest looks through, and names.
_LOOKED_THROUGH = 500
_NAMED = 5


class RevisionUnknown(RequestRejected):
    """No revision, or more than one, fits what was asked for. The message says which ones there are."""


class NotValid(PolicyInvalid):
    """The policy of that name may not go live under today's language."""

    def __init__(self, findings: Sequence[Finding], *, name: str) -> None:
        super().__init__(findings)
        self.name = name


class Word(StrEnum):
    """What names a policy beside a digest."""

    #: The policy directory as it is now, whether it may go live or not.
    FILES = "files"
    #: What serves: the pinned revision; else the files; else, when those were refused, the last one that was in force.
    LIVE = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A set of policy files found, and what it is called."""

    digest: str
    files: Mapping[str, str]
    #: As asked for: "files", "live", or the digest.
    name: str


class Compiler:
    """Compiles off the event loop, one policy at a time, and keeps the last few that it made."""

    def __init__(self, *, catalogue: Catalogue = NO_CATALOGUE) -> None:
        self.catalogue = catalogue
        self._turn = asyncio.Lock()
        self._made: dict[str, Compiled] = {}

    async def __call__(self, files: Mapping[str, str]) -> Compiled:
        """Raises PolicyInvalid with every finding."""
        async with self._turn:
            digest = await asyncio.to_thread(digest_of, files)
            made = self._made.pop(digest, None)
            if made is None:
                made = await asyncio.to_thread(compile_policy, files, catalogue=self.catalogue)
            self._made[digest] = made
            while len(self._made) > KEPT:
                del self._made[next(iter(self._made))]
            return made

    async def take_a_turn(self, work: Callable[[], Result]) -> Result:
        """Work as heavy as compiling, done as compiling is: off the event loop, and never beside it."""
        async with self._turn:
            return await asyncio.to_thread(work)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyArchive:
    """Where policies and past decisions are found. Built by `bootstrap`."""

    history: PolicyHistory
    shelf: Shelf
    ledger: LedgerBook
    clock: Clock
    compiled: Compiler

    def now_s(self) -> float:
        """Unix seconds."""
        return self.clock.unix_us() / 1_000_000


async def find_policy(archive: PolicyArchive, name: str) -> Kept:
    """The files that `name` stands for: a `Word`, a digest, or a beginning of one.

    Raises RevisionUnknown, PolicyInvalid when the files cannot be read, BooksAway.
    """
    if name == Word.FILES:
        return await _on_the_shelf(archive, name=name)
    if name == Word.LIVE:
        return await _in_force(archive)
    return _kept(await find_revision(archive, name), name=name)


async def compiled_policy(archive: PolicyArchive, name: str) -> Compiled:
    """What `find_policy` finds, compiled. Raises NotValid, and what `find_policy` raises."""
    kept = await find_policy(archive, name)
    try:
        return await archive.compiled(kept.files)
    except PolicyInvalid as fault:
        raise NotValid(fault.findings, name=kept.name) from fault


async def find_revision(archive: PolicyArchive, digest: str) -> Revision:
    """By its digest or a beginning of 4 digits or more. Raises RevisionUnknown, BooksAway."""
    found = await archive.history.find(digest)
    if found is None:
        raise RevisionUnknown(await _what_there_is(archive, digest), param="digest", code="revision_unknown")
    return found


async def _on_the_shelf(archive: PolicyArchive, *, name: str) -> Kept:
    files = await asyncio.to_thread(archive.shelf.read)
    return Kept(digest=digest_of(files), files=files, name=name)


async def _in_force(archive: PolicyArchive) -> Kept:
    pin = await archive.history.pinned()
    if pin is not None:
        return _kept(await find_revision(archive, pin.digest), name=Word.LIVE)
    try:
        found = await _on_the_shelf(archive, name=Word.LIVE)
        await archive.compiled(found.files)
    except PolicyInvalid:
        last = await last_in_force(archive.history, archive.ledger)
        if last is None:
            raise
        return _kept(last, name=Word.LIVE)
    return found


def _kept(revision: Revision, *, name: str) -> Kept:
    return Kept(digest=revision.digest, files=revision.files, name=name)


async def _what_there_is(archive: PolicyArchive, digest: str) -> str:
    latest = await archive.history.latest(most=_LOOKED_THROUGH)
    fitting = [one.digest for one in latest if digest and one.digest.startswith(digest)]
    asked = f'"{digest[:64]}"'
    if len(fitting) > 1:
        return f"{asked} fits {len(fitting)} revisions of the policy ({_listed(fitting)}): give more digits of the one"
    if fitting:
        return f"{asked} is too short a beginning: write 4 digits or more, as in {fitting[0]}"
    if not latest:
        return "the history holds no revision of the policy yet: a gateway writes its first one there when it starts"
    newest = _listed([one.digest for one in latest])
    return (
        f"the history has no revision {asked}; the newest are {newest}: `breakeven policy history` lists them, and "
        f"{' and '.join(f'`{word}`' for word in Word)} stand for the directory now and for what serves"
    )


def _listed(digests: list[str]) -> str:
    more = len(digests) - _NAMED
    return ", ".join(digests[:_NAMED]) + (f", and {more} more" if more > 0 else "")
