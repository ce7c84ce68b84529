"""A budget's account for one period: what is spent, what is leased to processes, and what is left.

A machine without I/O: the database's statements do exactly this, one call after the other, and the simulator uses it
in the database's place. All figures are whole nanodollars and only grow; what a lease still keeps is what was granted
less what was given back and what settled receipts have used of it:

    kept(lease) = granted - returned - used
    room        = cap - spent - Σ kept

Nothing that a lease keeps is ever granted again before its holder says so, by giving it back or by being *closed*
(its spool was adopted and every record of it is booked). A lease that is not renewed in time becomes *lost*: it counts
as spent, as an estimate, until its holder or its spool turns up. So nobody's clock can make a budget overspent.

Every call can be sent twice, and late: `returned` is told as a total, `granted` is answered as a total, and receipts
settle once because they are booked once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from app.domain.money import ZERO, Nanodollars

#: A grant beyond the bare need takes at most this part of the room: leases shrink geometrically as the end comes near.
SHARE_OF_ROOM = 8


class LeaseState(StrEnum):
    """open: renewed in time. lost: its holder has not been heard of in time. closed: nothing of it is left."""

    OPEN = "open"
    LOST = "lost"
    CLOSED = "closed"


@dataclass(slots=True, kw_only=True)
class Lease:
    """What one process holds of one budget in one period. `expires_us` is the database's clock."""

    holder: str
    granted: int = 0
    returned: int = 0
    used: int = 0
    expires_us: int = 0
    state: LeaseState = LeaseState.OPEN

    @property
    def kept(self) -> Nanodollars:
        """Reserved for this holder."""
        return Nanodollars(self.granted - self.returned - self.used)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An account in figures, at one moment."""

    cap: Nanodollars
    spent: Nanodollars
    #: Kept by leases that are open.
    leased: Nanodollars
    #: Kept by leases that are lost: spent, as an estimate.
    lost: Nanodollars
    #: How much receipts cost more than was held for them.
    overrun: Nanodollars

    @property
    def room(self) -> Nanodollars:
        """What may still be granted; never below zero."""
        return Nanodollars(max(self.cap - self.spent - self.leased - self.lost, 0))


class Account:
    """One budget in one period."""

    __slots__ = ("_gone", "cap", "leases", "overrun", "spent")

    def __init__(self, *, cap: Nanodollars, spent: Nanodollars = ZERO) -> None:
        self.cap: int = cap
        self.spent: int = spent
        self.overrun: int = 0
        self.leases: dict[str, Lease] = {}
        self._gone: set[str] = set()

    def standing(self) -> Standing:
        """Its figures now."""
        kept = dict.fromkeys(LeaseState, 0)
        for lease in self.leases.values():
            kept[lease.state] += lease.kept
        return Standing(
            cap=Nanodollars(self.cap),
            spent=Nanodollars(self.spent),
            leased=Nanodollars(kept[LeaseState.OPEN]),
            lost=Nanodollars(kept[LeaseState.LOST]),
            overrun=Nanodollars(self.overrun),
        )

    def take(
        self, holder: str, *, cap: Nanodollars, need: int, want: int, returned: int, now_us: int, ttl_us: int
    ) -> Lease:
        """Grant `holder` at least `need` more, up to `want`, or nothing; renews its lease either way.

        `cap` is the budget's amount by the policy that the holder knows, and the account's from now on. `returned` is
        the total that the holder has given back so far. With `need` 0 and `want` 0 this is a renewal. The answer is
        the lease, whose `granted` is a total: what an answer that got lost had granted shows in the next one.

        A holder that was closed is gone for good. What it asked for before, and what arrives only now, changes nothing:
        nobody would ever give it back.
        """
        if holder in self._gone:
            return self.leases.get(holder) or Lease(holder=holder, state=LeaseState.CLOSED)
        self.cap = cap
        lease = self.leases.setdefault(holder, Lease(holder=holder))
        self._give_back(lease, returned)
        lease.expires_us = now_us + ttl_us
        lease.state = LeaseState.OPEN
        lease.granted += granted(need=need, want=want, room=self.standing().room)
        return lease

    def settle(self, *, charge: int, holder: str | None, held: int) -> None:
        """A receipt was booked. `holder` and `held` are what it says was held for it; None where nothing was."""
        self.spent += charge
        if holder is None:
            return
        self.overrun += max(charge - held, 0)
        lease = self.leases.get(holder)
        if lease is not None:
            lease.used += min(charge, lease.kept) if charge > 0 else 0

    def adjust(self, amount: int) -> None:
        """A correction was booked; it may be negative."""
        self.spent += amount

    def expire(self, *, now_us: int) -> list[Lease]:
        """The sweep: open leases past their time become lost; those that keep nothing are closed."""
        lapsed = [
            lease for lease in self.leases.values() if lease.state is LeaseState.OPEN and lease.expires_us <= now_us
        ]
        for lease in lapsed:
            lease.state = LeaseState.LOST if lease.kept else LeaseState.CLOSED
        return lapsed

    def close(self, holder: str) -> None:
        """The holder is gone and every record of it is booked: what its lease kept is free again."""
        self._gone.add(holder)
        lease = self.leases.get(holder)
        if lease is not None:
            self._give_back(lease, lease.returned + lease.kept)
            lease.state = LeaseState.CLOSED

    def _give_back(self, lease: Lease, returned: int) -> None:
        more = min(returned - lease.returned, lease.kept)
        if more > 0:
            lease.returned += more


def granted(*, need: int, want: int, room: int) -> Nanodollars:
    """How much of `room` a holder gets that needs `need` now and could use `want`: nothing, or `need` and perhaps more.

    More than the need is granted only as far as it is less than an eighth of the room.
    """
    if need > room:
        return ZERO
    return Nanodollars(max(need, min(want, room // SHARE_OF_ROOM)))
