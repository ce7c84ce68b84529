"""The policy that is wanted goes in force: the revision that the operator pinned, or else what the files say.

Looked for beside the traffic, for ever. Reading and compiling happen in a thread; the swap is one assignment. Whatever
is wrong with the new, the old stays: a broken file, a pin that does not compile any more, Postgres away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from app.documents.compile import Compiled, compile_policy, digest_of
from app.domain.errors import PolicyInvalid
from app.domain.findings import Finding, Severity
from app.flows.policy_memory import PolicyMemory
from app.live.fleet import Fleet
from app.live.policy_slot import PolicySlot, PolicyStatus, Refused
from app.live.shelf_watch import LOOK_EVERY_S, ShelfWatch
from app.ports import BooksAway, Clock, LedgerBook, Pin, PolicyHistory, Revision, Shelf

#: Between questions for the pin.
PIN_EVERY_S: Final = 1.0
#: Revisions that are searched for the one that was in force last.
_LATEST: Final = 200
_MICROSECONDS: Final = 1_000_000

Compile = Callable[[Mapping[str, str]], Compiled]
Pause = Callable[[float], Awaitable[None]]


class PolicyWatcher(Protocol):
    """Is told what becomes of the policy. Never raises, never waits."""

    def policy_in_force(self, status: PolicyStatus, *, before: str | None, by: str) -> None:
        """Swapped in for the digest `before`; None at the start, and its own where an edit that had been refused was
        undone. `by` wrote it, or pinned it."""
        ...

    def policy_refused(self, refused: Refused, *, stays: str) -> None:
        """An offer was refused; the digest `stays` is in force."""
        ...

    def policy_forgotten(self, digest: str, *, because: str) -> None:
        """A revision could not be written down in the history, and will not be."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRooms:
    """What the story walks through."""

    shelf: Shelf
    history: PolicyHistory
    ledger: LedgerBook
    clock: Clock
    watcher: PolicyWatcher
    #: Raises PolicyInvalid; its digest is `digest_of` the files.
    compile: Compile = compile_policy

    def now_s(self) -> float:
        """Unix seconds."""
        return self.clock.unix_us() / _MICROSECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    """A set of files, read and compiled. `compiled` None: refused, for these findings. `files` None: not readable."""

    digest: str | None
    files: Mapping[str, str] | None
    compiled: Compiled | None
    findings: tuple[Finding, ...]


class PolicyKeeper:
    """One a process. `open` first, then `keep` beside everything else."""

    def __init__(self, rooms: PolicyRooms) -> None:
        self._rooms = rooms
        self._watch = ShelfWatch()
        self._memory = PolicyMemory(rooms.history, forgotten=rooms.watcher.policy_forgotten)
        self._written: _Offer | None = None
        self._author = ""
        self._pin: Pin | None = None
        self._pinned: _Offer | None = None
        self._slot: PolicySlot | None = None
        self._fleet: Fleet | None = None

    async def open(self) -> PolicySlot:
        """The slot with the policy to start with: the pinned revision, else the files, else, where the files are not
        valid, the revision that was in force last. Raises PolicyInvalid with the files' findings when there is none
        of them, and BooksAway when the files are not valid and Postgres cannot be asked for another."""
        rooms = self._rooms
        self._written = await asyncio.to_thread(_offer_of, rooms)
        self._author = await asyncio.to_thread(rooms.shelf.author)
        with contextlib.suppress(BooksAway):
            await self._follow_pin(await rooms.history.pinned())
        compiled, by = self._wanted(), self._pin.by if self._pin else self._author
        if compiled is None:
            last = await last_in_force(rooms.history, rooms.ledger)
            compiled, by = None if last is None else (await _compiled(last, rooms.compile)).compiled, "the history"
        if compiled is None:
            raise PolicyInvalid(self._written.findings)
        status = PolicyStatus(digest=compiled.policy.digest, since_s=rooms.now_s(), findings=compiled.findings)
        self._slot = PolicySlot(compiled.policy, status)
        self._tell_status()
        rooms.watcher.policy_in_force(self._slot.status, before=None, by=by)
        for offer in (self._written, self._pinned):
            if offer is not None:
                self._tell_refused(offer)
        self._remember(self._written)
        return self._slot

    async def keep(self, fleet: Fleet, *, pause: Pause = asyncio.sleep) -> None:
        """Follow the files and the pin, for ever, until cancelled. The fleet follows what is in force."""
        assert self._slot is not None, "`open` comes first"
        self._fleet = fleet
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_looking(pause))
            group.create_task(self._keep_asking_for_the_pin(pause))
            group.create_task(self._memory.keep(pause))

    async def _keep_looking(self, pause: Pause) -> None:
        while True:
            await pause(LOOK_EVERY_S)
            look = await asyncio.to_thread(self._rooms.shelf.look)
            if self._watch.saw(look, at_s=self._rooms.clock.monotonic_s()):
                await self._read(look)

    async def _read(self, look: object) -> None:
        shelf = self._rooms.shelf
        known = self._written
        offer = await asyncio.to_thread(_offer_of, self._rooms, known=known)
        after = await asyncio.to_thread(shelf.look)
        if after != look:
            self._watch.torn(after)
            return
        if offer is not known and offer.compiled is None and self._watch.doubts((offer.digest, offer.findings)):
            return
        self._watch.took(look, at_s=self._rooms.clock.monotonic_s())
        if offer is known:
            return
        # Swapped first, and only then looked up who wrote it: nobody waits for version control.
        self._written = offer
        self._put_in_force()
        self._tell_refused(offer)
        self._author = await asyncio.to_thread(shelf.author)
        self._remember(offer)

    async def _keep_asking_for_the_pin(self, pause: Pause) -> None:
        while True:
            await pause(PIN_EVERY_S)
            try:
                pin = await self._rooms.history.pinned()
                changed = pin != self._pin
                await self._follow_pin(pin)
            except BooksAway:
                continue
            if changed:
                self._put_in_force()
                offer = self._pinned or self._written
                assert offer is not None, "`open` read them"
                self._tell_refused(offer)
                self._remember(offer)

    async def _follow_pin(self, pin: Pin | None) -> None:
        """Raises BooksAway, and changes nothing then."""
        if pin is None:
            self._pin = self._pinned = None
            return
        if self._pinned is None or self._pinned.digest != pin.digest:
            revision = await self._rooms.history.find(pin.digest)
            self._pinned = _unknown(pin) if revision is None else await _compiled(revision, self._rooms.compile)
        self._pin = pin

    def _wanted(self) -> Compiled | None:
        """What is to be in force; None: what is in force."""
        if self._pinned is not None:
            return self._pinned.compiled
        return None if self._written is None else self._written.compiled

    def _put_in_force(self) -> None:
        slot, fleet, wanted = self._slot, self._fleet, self._wanted()
        assert slot is not None, "`open` comes first"
        assert fleet is not None, "`keep` has it"
        before, was_refused = slot.current.digest, slot.status.refused is not None
        if wanted is None or wanted.policy.digest == before:
            self._tell_status()
            if wanted is not None and was_refused and slot.status.refused is None:
                self._rooms.watcher.policy_in_force(slot.status, before=before, by=self._whose())
            return
        # Nothing is awaited between the two, so that no request sees the one without the other.
        fleet.follow(wanted.policy)
        slot.swap(wanted.policy)
        slot.status = replace(
            slot.status,
            digest=wanted.policy.digest,
            since_s=self._rooms.now_s(),
            findings=wanted.findings,
            reloads=slot.status.reloads + 1,
        )
        self._tell_status()
        self._rooms.watcher.policy_in_force(slot.status, before=before, by=self._whose())

    def _whose(self) -> str:
        return "the files" if self._pin is None else self._pin.by

    def _tell_status(self) -> None:
        slot, written = self._slot, self._written
        assert slot is not None, "`open` comes first"
        assert written is not None, "`open` read them"
        before = slot.status
        slot.status = replace(
            before,
            pin=self._pin,
            files_digest=None if written.compiled is None else written.digest,
            refused=self._refused(written, before.refused),
            pin_refused=None if self._pinned is None else self._refused(self._pinned, before.pin_refused),
        )

    def _refused(self, offer: _Offer, before: Refused | None) -> Refused | None:
        if offer.compiled is not None:
            return None
        if before is not None and (before.digest, before.findings) == (offer.digest, offer.findings):
            return before
        return Refused(digest=offer.digest, findings=offer.findings, since_s=self._rooms.now_s())

    def _tell_refused(self, offer: _Offer) -> None:
        slot = self._slot
        assert slot is not None, "`open` comes first"
        refused = slot.status.pin_refused if offer is self._pinned else slot.status.refused
        if offer.compiled is None and refused is not None:
            self._rooms.watcher.policy_refused(refused, stays=slot.current.digest)

    def _remember(self, offer: _Offer) -> None:
        """To be written down; files that could not be read are no revision."""
        slot = self._slot
        assert slot is not None, "`open` comes first"
        if offer.digest is None or offer.files is None:
            return
        now_s = self._rooms.now_s()
        self._memory.add(
            Revision(
                digest=offer.digest,
                files=offer.files,
                author=self._author,
                seen_at_s=now_s,
                findings=tuple(str(finding) for finding in offer.findings),
                in_force_at_s=now_s if offer.digest == slot.current.digest else None,
            )
        )


async def last_in_force(history: PolicyHistory, ledger: LedgerBook) -> Revision | None:
    """The revision that was in force last, as far as the books tell: the one of the newest receipt, or one that came
    in force for the first time after it. Raises BooksAway."""
    in_force = [one for one in await history.latest(most=_LATEST) if one.in_force_at_s is not None]
    newest = max(in_force, key=lambda one: one.in_force_at_s or 0.0, default=None)
    receipts = await ledger.latest(most=1)
    if newest is not None and receipts and receipts[0].at_us / _MICROSECONDS > (newest.in_force_at_s or 0.0):
        return await history.find(receipts[0].policy_digest) or newest
    return newest


def _offer_of(rooms: PolicyRooms, *, known: _Offer | None = None) -> _Offer:
    """What the shelf offers now; `known` itself when that is the same."""
    try:
        files = rooms.shelf.read()
    except PolicyInvalid as fault:
        unread = _Offer(digest=None, files=None, compiled=None, findings=fault.findings)
        return known if known == unread else unread
    if known is not None and known.files == files:
        return known
    return _judged(files, rooms.compile)


def _judged(files: Mapping[str, str], compile_files: Compile) -> _Offer:
    try:
        compiled = compile_files(files)
    except PolicyInvalid as fault:
        return _Offer(digest=digest_of(files), files=files, compiled=None, findings=fault.findings)
    except Exception as bug:  # whatever a text does to the compiler, traffic goes on under the policy that is in force
        message = f"the compiler failed on these files ({type(bug).__name__}: {bug})"
        told = _finding("policy", message, code="bug", mend="undo the edit, and report this with the files")
        return _Offer(digest=digest_of(files), files=files, compiled=None, findings=(told,))
    return _Offer(digest=compiled.policy.digest, files=files, compiled=compiled, findings=compiled.findings)


async def _compiled(revision: Revision, compile_files: Compile) -> _Offer:
    """A revision under today's language, which may have grown stricter since."""
    offer = await asyncio.to_thread(_judged, revision.files, compile_files)
    if offer.digest == revision.digest:
        return offer
    message = f"the history's text of {revision.digest} has the digest {offer.digest}: it was changed behind our back"
    return _broken(revision.digest, message, mend="restore the history from a backup, or release the pin")


def _unknown(pin: Pin) -> _Offer:
    return _broken(pin.digest, f"the history has no revision {pin.digest}", mend="run `breakeven policy release`")


def _broken(digest: str, message: str, *, mend: str) -> _Offer:
    finding = _finding("history", message, code="history", mend=mend)
    return _Offer(digest=digest, files=None, compiled=None, findings=(finding,))


def _finding(file: str, message: str, *, code: str, mend: str) -> Finding:
    return Finding(file=file, line=0, column=0, severity=Severity.ERROR, code=code, message=message, mend=mend)
