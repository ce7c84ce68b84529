"""The spool: every request's intent and receipt on the local disk, before Postgres knows of them.

Journal and outbox in one, over one directory that all processes of a machine share. Each process appends to segments
of its own (`spool_log`), receipts become durable in groups (`spool_sync`), a disk that fails is dealt with
(`spool_keeper`), and what dead processes left is taken over (`spool_adoption`). One spool belongs to one event loop;
nothing here is called from another thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from app.domain.errors import LedgerUnavailable, SetupError
from app.domain.ledger.receipt import Receipt
from app.domain.money import Nanodollars
from app.domain.routing.facts import RequestFacts
from app.domain.routing.plan import Plan, Refusal
from app.ports import Clock, Shipment
from app.storage.receipt_json import encode, encode_head, with_tail
from app.storage.spool_adoption import Orphan, Part, segment_part, segment_shipped
from app.storage.spool_format import Kind, framed
from app.storage.spool_home import Home, bytes_elsewhere, make_home, take_orphans
from app.storage.spool_keeper import Keeper, SpoolLimits
from app.storage.spool_quarantine import Quarantine
from app.storage.spool_segment import Segment
from app.storage.spool_sync import Sync, sync_directory, sync_file
from app.storage.spool_tail import Again

__all__ = ["Durability", "Spool", "SpoolLimits"]

#: fsync: a settled receipt survives the machine. os: it survives this process, not a power cut.
Durability: TypeAlias = Literal["fsync", "os"]

_USUAL_LIMITS = SpoolLimits()
#: How often segments of processes that have died since are looked for.
_LOOK_AROUND_S = 10.0


@dataclass(frozen=True, slots=True)
class _Mark:
    """The place of a shipment. `of` None: it is our own."""

    of: Orphan | Again | None
    part: Part


class _Adoption(NamedTuple):
    orphans: list[Orphan]
    #: Homes that could not be adopted now, and why.
    left: dict[Path, OSError]
    bytes_elsewhere: int


class Spool:
    """Implements `Journal` and `Outbox`. Use `Spool.open`."""

    def __init__(
        self, directory: Path, *, keeper: Keeper, quarantine: Quarantine, clock: Clock, notice: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._keeper = keeper
        self._quarantine = quarantine
        self._clock = clock
        self._notice = notice
        self._loop = asyncio.get_running_loop()
        #: By request id, of those under way: what an intent was written for, and the head of its JSON.
        self._heads: dict[str, tuple[RequestFacts, Plan | Refusal, bytes]] = {}
        self._orphans: list[Orphan] = []
        self._told_of: set[Path] = set()
        #: Of dead processes, by name: every record is booked, and whoever asks has not let the home go yet.
        self._booked_homes: dict[str, Home] = {}
        self._bytes_elsewhere = 0
        #: What is sent once more, as another server leads than the one that has it.
        self._again: Again | None = None
        self._more = asyncio.Event()
        self._look_around_at_s = clock.monotonic_s()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        directory: Path,
        *,
        clock: Clock,
        durability: Durability = "fsync",
        limits: SpoolLimits = _USUAL_LIMITS,
        sync: Sync = sync_file,
        notice: Callable[[str], None] = lambda sentence: None,
    ) -> AsyncIterator[Spool]:
        """The spool of this process below `directory`, with what dead processes left there adopted.

        On leaving, everything pending is made durable; what is not shipped stays for the next process. `notice` gets a
        sentence for each rare event that an operator should know. Open it after the last fork. Raises SetupError.
        """
        try:
            quarantine, home = await asyncio.to_thread(_prepared, directory, at_us=clock.unix_us())
            try:
                keeper = Keeper(
                    directory,
                    home,
                    limits=limits,
                    sync=sync if durability == "fsync" else None,
                    notice=notice,
                    unix_s=lambda: clock.unix_us() / 1e6,
                )
            except OSError:
                home.remove()
                raise
        except OSError as fault:
            raise SetupError(
                f"the spool in {directory} cannot be used ({fault}): make it a directory on a local disk that this "
                "user may write to and that has room"
            ) from fault
        spool = cls(directory, keeper=keeper, quarantine=quarantine, clock=clock, notice=notice)
        try:
            await spool._look_around()
            yield spool
        finally:
            for home in (*(orphan.home for orphan in spool._orphans), *spool._booked_homes.values()):
                home.leave()
            await keeper.close()

    @property
    def home(self) -> str:
        """Names this process's own directory in the spool, and so its leases of budgets."""
        return self._keeper.log.name

    def booked_homes(self) -> list[str]:
        """Processes that are gone and whose every record is booked by now. Each is told until `forget_home`, by the
        next process too if this one dies before."""
        return list(self._booked_homes)

    def forget_home(self, name: str) -> None:
        """Nothing that was kept under this name is open any more: its directory goes."""
        self._booked_homes.pop(name).remove()

    # ── the journal ──────────────────────────────────────────────────────────────────────────────────────────────────

    def intend(self, receipt: Receipt) -> None:
        """See `Journal`. Raises LedgerUnavailable while a record could not be kept, at the cap, and once closed."""
        request_id = receipt.request_id
        head = encode_head(receipt)
        self._keeper.keep_intent(request_id, framed(Kind.INTENT, request_id, with_tail(head, receipt)))
        self._heads[request_id] = (receipt.facts, receipt.decision, head)

    def checkpoint(self, *, request_id: str, output_tokens: int, charge: Nanodollars) -> None:
        """See `Journal`. Left out for a request that is not open, and while new work is refused."""
        if self._keeper.is_open(request_id):
            payload = b'{"output_tokens":%d,"charge":%d}' % (output_tokens, charge)
            self._keeper.keep_checkpoint(request_id, framed(Kind.CHECKPOINT, request_id, payload))

    async def settle(self, receipt: Receipt) -> None:
        """See `Journal`. Cancelled, it has given up waiting; the receipt is kept all the same.

        After LedgerUnavailable the receipt of a dispatched request is still written as soon as that is possible;
        if the process dies before, the request is booked as interrupted.
        """
        request_id = receipt.request_id
        durable = self._loop.create_future()
        self._keeper.keep_receipt(request_id, framed(Kind.RECEIPT, request_id, self._encoded(receipt)), durable=durable)
        self._more.set()
        await durable

    def settle_later(self, receipt: Receipt) -> None:
        """See `Journal`. Never raises: a receipt that cannot be written now is treated as `settle` says."""
        request_id = receipt.request_id
        try:
            self._keeper.keep_receipt(
                request_id, framed(Kind.RECEIPT, request_id, self._encoded(receipt)), durable=None
            )
        except LedgerUnavailable as fault:
            self._notice(f"the receipt of request {request_id} could not be written: {fault}")
        self._more.set()

    def _encoded(self, receipt: Receipt) -> bytes:
        facts, decision, head = self._heads.pop(receipt.request_id, (None, None, b""))
        same = facts is receipt.facts and decision is receipt.decision
        return with_tail(head, receipt) if same else encode(receipt)

    @property
    def depth(self) -> int:
        """Final receipts, adopted ones too, not yet known to be in Postgres."""
        return self._keeper.log.unshipped + sum(orphan.remaining for orphan in self._orphans)

    @property
    def trouble(self) -> str | None:
        """Why new work is refused at this moment, in a sentence; None when it is not."""
        return self._keeper.trouble

    @property
    def quarantined(self) -> int:
        """Damaged stretches and refused receipts in quarantine: those found when it was opened, and ours since."""
        return self._quarantine.count

    # ── the outbox ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def next_shipment(self, *, most: int) -> Shipment | None:
        """See `Outbox`. Until `shipped` is called it gives the same again. Raises LedgerUnavailable when what is
        damaged could not be put aside."""
        await self._look_around_if_due()
        try:
            mark = await self._next_mark(most)
        except OSError as fault:
            raise self._keeper.unavailable(fault) from fault
        return None if mark is None else Shipment(receipts=tuple(mark.part.receipts), mark=mark)

    def shipped(self, shipment: Shipment) -> None:
        """See `Outbox`. A shipment that is not the oldest (any more) is ignored, and so sent again."""
        mark = shipment.mark
        assert isinstance(mark, _Mark), "a shipment of another outbox"
        if mark.of is None:
            segment_shipped(mark.part)
            self._keeper.log.drop_shipped()
        else:
            if isinstance(mark.of, Orphan) and mark.part.segment is None:
                self._keep_made(mark.part, home=mark.of.home.name)
            mark.of.shipped(mark.part)
            self._part_with_finished_orphans()

    def quarantine(self, receipt: bytes, *, reason: str) -> None:
        """See `Outbox`. On the disk when it returns. Raises LedgerUnavailable when that is impossible."""
        try:
            self._quarantine.keep_rejected(receipt, home=self._keeper.log.name, reason=reason)
        except OSError as fault:
            raise self._keeper.unavailable(fault) from fault

    def server_is(self, server: str) -> bool:
        """See `ports.servers.Follower`."""
        if self._again is not None:
            return False
        log = self._keeper.log
        at_s = self._clock.unix_us() / 1e6
        self._again = self._keeper.tail.server_is(server, at_s=at_s, live=log.segments)
        log.stays = self._again is not None
        if log.stays:
            self._more.set()
        return log.stays

    async def wait_for_more(self) -> None:
        """See `Outbox`. Returns every few seconds at least."""
        await self._look_around_if_due()
        if self.depth or self._again is not None:
            return
        self._more.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_AROUND_S):
                await self._more.wait()

    async def adopt(self) -> int:
        """Take over what processes that are gone left behind; how many there were. Raises OSError."""
        known = {self._keeper.log.name, *(orphan.home.name for orphan in self._orphans), *self._booked_homes}
        replay = self._loop.run_in_executor(None, _adopted, self._directory, known, self._quarantine)
        try:
            adoption = await asyncio.shield(replay)
        except asyncio.CancelledError:
            replay.add_done_callback(_let_go)
            raise
        self._tell_of(adoption.left)
        for orphan in adoption.orphans:
            self._notice(
                f"adopted {orphan.home.name} of a process that is gone: {orphan.remaining} receipts to ship, "
                f"{orphan.interrupted} of them interrupted; {orphan.torn} torn records cut, {orphan.damaged} damaged "
                "stretches put in quarantine"
            )
        self._orphans.extend(adoption.orphans)
        self._bytes_elsewhere = adoption.bytes_elsewhere
        self._part_with_finished_orphans()
        if self.depth:
            self._more.set()
        return len(adoption.orphans)

    # ── below the surface ────────────────────────────────────────────────────────────────────────────────────────────

    async def _next_mark(self, most: int) -> _Mark | None:
        for orphan in self._orphans:
            part = await orphan.next_part(most=most)
            if part is not None:
                return _Mark(orphan, part)
        self._part_with_finished_orphans()
        if self._again is not None:
            part = await self._again.next_part(most=most)
            if part is not None:
                return _Mark(self._again, part)
            self._again, self._keeper.log.stays = None, False
        for segment in tuple(self._keeper.log.segments):
            part = await segment_part(segment, most=most, home=self._keeper.log.name, quarantine=self._quarantine)
            if part is not None:
                return _Mark(None, part)
        return None

    def _tell_of(self, left: Mapping[Path, OSError]) -> None:
        for path, fault in left.items():
            if path not in self._told_of:
                self._notice(f"the receipts in {path} cannot be shipped now ({fault}): make it readable for this user")
        self._told_of = set(left)

    def _part_with_finished_orphans(self) -> None:
        for orphan in [orphan for orphan in self._orphans if orphan.remaining == 0]:
            self._orphans.remove(orphan)
            orphan.part_with_segments(partial(self._put_by, home=orphan.home.name))
            self._booked_homes[orphan.home.name] = orphan.home
        self._keeper.bytes_beside = self._bytes_elsewhere + sum(orphan.size_bytes for orphan in self._orphans)

    def _put_by(self, segment: Segment, *, home: str) -> None:
        self._keeper.tail.put_by(segment, at_s=self._clock.unix_us() / 1e6, home=home)

    def _keep_made(self, part: Part, *, home: str) -> None:
        self._keeper.tail.keep_made(part.receipts, at_s=self._clock.unix_us() / 1e6, home=home)

    async def _look_around_if_due(self) -> None:
        if self._clock.monotonic_s() >= self._look_around_at_s:
            await self._look_around()

    async def _look_around(self) -> None:
        self._look_around_at_s = self._clock.monotonic_s() + _LOOK_AROUND_S
        self._keeper.log.drop_shipped()
        try:
            await self.adopt()
        except OSError as fault:
            self._notice(f"what other processes left in {self._directory} could not be adopted: {fault}")


def _prepared(directory: Path, *, at_us: int) -> tuple[Quarantine, Home]:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    quarantine = Quarantine(directory)
    home = make_home(directory, at_us=at_us)
    sync_directory(home.path.parent)
    return quarantine, home


def _adopted(directory: Path, known: set[str], quarantine: Quarantine) -> _Adoption:
    orphans: list[Orphan] = []
    taken = take_orphans(directory, known=known)
    left = dict(taken.forbidden)
    for home in taken.homes:
        try:
            orphans.append(Orphan(home, quarantine))
        except OSError as fault:
            home.leave()
            left[home.path] = fault
    adopted = {orphan.home.name for orphan in orphans}
    return _Adoption(orphans, left, bytes_elsewhere(directory, known=known | adopted))


def _let_go(replay: asyncio.Future[_Adoption]) -> None:
    """Nobody waits for this adoption any more: leave the homes to others."""
    if not replay.cancelled() and replay.exception() is None:
        for orphan in replay.result().orphans:
            orphan.home.leave()
