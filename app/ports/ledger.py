"""The protocols of money: budgets leased from Postgres, limits shared by all processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from app.domain.budget import Budget
from app.domain.ledger.account import Standing
from app.domain.ledger.adjustment import Adjustment
from app.domain.ledger.invariants import Checked
from app.domain.ledger.month import ClosedMonth, Month, MonthPart, MonthsSeen
from app.domain.ledger.receipt import Receipt
from app.domain.money import ZERO, Nanodollars


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseWanted:
    """One process asks for room in one budget, in the period `begin` to `end`; need and want 0: to renew only."""

    budget: Budget
    begin: datetime
    end: datetime
    need: Nanodollars = ZERO
    want: Nanodollars = ZERO
    #: What this process has given back in all, in this period.
    returned: Nanodollars = ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseGranted:
    """The answer to one `LeaseWanted`. `granted` is the total of all grants to this process in this period."""

    account: str
    begin: datetime
    granted: Nanodollars
    standing: Standing
    #: Seconds until the lease is lost unless it is renewed.
    expires_in_s: float


class BudgetBook(Protocol):
    """The accounts of budgets in Postgres, as `domain.ledger.account.Account` keeps them. Raises BooksAway.

    Receipts settle their holds when the ledger book books them; nobody else moves what is spent.
    """

    async def lease(self, wanted: Sequence[LeaseWanted], *, holder: str) -> Sequence[LeaseGranted]:
        """Take, give back and renew, in one transaction and one round trip; answers in the order of `wanted`.

        An account that is not there yet is opened, with what the books say was spent in its period so far. Sending the
        same again is safe; a grant whose answer got lost shows in the next answer's total.
        """
        ...

    async def sweep(self) -> int:
        """Leases past their time are lost from now on; how many. Any process may do it, at any time."""
        ...

    async def close(self, holder: str) -> int:
        """That process is gone and every record of its spool is booked: its leases are closed; how many were open."""
        ...

    async def standings(self, budgets: Sequence[LeaseWanted]) -> Sequence[Standing | None]:
        """How the accounts stand, in the order asked for; None for one that nobody has opened. Takes nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RateWanted:
    """One process asks for a slice of a limit: `amount` requests or tokens of `per_minute`."""

    #: What is limited, such as `key/abcd2345/requests`.
    name: str
    per_minute: int
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RateGranted:
    """What one process was given of a bucket."""

    name: str
    #: At most what was wanted, down to 0.
    amount: int
    #: What nobody has taken yet.
    left: int
    #: Seconds until the bucket is full again, if nobody takes more.
    full_in_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSent:
    """What one process sent to a target within its last minute, and what the target's seller allows; None: anything."""

    requests: int
    tokens: int
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What one process may do until it compares again."""

    #: Those that serve, itself among them, and its place in their row, from 0.
    processes: int
    place: int
    #: Target → how many more requests and tokens it may send; None: any number.
    rooms: Mapping[str, tuple[int | None, int | None]]


class LimitBook(Protocol):
    """Token buckets shared by all processes: each holds a minute's worth and refills evenly. Raises BooksAway."""

    async def take(self, wanted: Sequence[RateWanted]) -> Sequence[RateGranted]:
        """Take from each bucket what it has, at most what is wanted; by the database's clock. A negative amount gives
        back what was not used."""
        ...

    async def compare(self, *, holder: str, sent: Mapping[str, TargetSent]) -> Compared:
        """Say what this process, `holder`, sent to targets, and claim its part of what nobody else claims of them. What
        all processes claim together is never more than a limit; who is silent claims for a minute what it claimed."""
        ...

    async def leave(self, *, holder: str, sent: Mapping[str, TargetSent]) -> None:
        """That process serves no more, and claims nothing beyond what it sent."""
        ...


class AdjustmentBook(Protocol):
    """Corrections in Postgres. Raises BooksAway."""

    async def adjust(self, adjustments: Sequence[Adjustment]) -> int:
        """Book what is not there yet, with its postings, roll-ups and budgets, in one transaction; how many.

        A correction counts in its attempt's month; in the moment of its booking where that month is closed. Raises
        RowsRefused, and has booked nothing then, when an attempt is not there.
        """
        ...

    async def of(self, attempt_ids: Collection[str]) -> Sequence[Adjustment]:
        """What is booked of these attempts, in the order of the corrections' ids."""
        ...


class MonthBook(Protocol):
    """Months of the ledger. Raises BooksAway."""

    async def seen(self) -> MonthsSeen:
        """Which months are sealed and closed, by the database's clock."""
        ...

    async def unfinished(self, month: Month) -> int:
        """How many processes still keep leases in it: what they have not booked yet will count for a later month."""
        ...

    async def seal(self, month: Month, *, by: str) -> bool:
        """From now on nothing is booked into it; True too when it was sealed before. False when it may not be."""
        ...

    async def parts(self, month: Month) -> Sequence[MonthPart]:
        """What counts for the month, added up; the same answer for ever once it is sealed. May take minutes."""
        ...

    async def close(self, closed: ClosedMonth) -> None:
        """Keep what a sealed month held. Raises RowsRefused for one that is closed already, or not sealed."""
        ...


class VerifyBook(Protocol):
    """The books looked at as a whole. Raises BooksAway."""

    def checks(self, *, soft_accounts: Collection[str] = ()) -> AsyncIterator[Checked]:
        """One invariant after the other, in their order, on one snapshot; nothing is written. `soft_accounts` are those
        of budgets that may be overspent."""
        ...


class SuspectBook(Protocol):
    """The requests whose usage cannot be true. Raises BooksAway."""

    async def suspicious(self, *, since: datetime, most: int) -> Sequence[Receipt]:
        """Those asked from `since` on (aware) with an attempt flagged `usage_suspect`, the newest first, at most
        `most`; copies for shadows count."""
        ...
