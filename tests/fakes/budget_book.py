"""The accounts of budgets in memory, kept by the machine that the database's functions copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.domain.budget import Budget
from app.domain.caller import Caller
from app.domain.ledger.account import Account, LeaseState, Standing
from app.domain.ledger.receipt import Receipt
from app.domain.money import Nanodollars
from app.ports import BooksAway
from app.ports.ledger import LeaseGranted, LeaseWanted
from tests.fakes.ledger_book import MemoryLedgerBook

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Adjustment:
    caller: Caller
    model: str
    at: datetime
    amount: int


@dataclass(frozen=True, slots=True)
class _Kept:
    """An account, and what falls into it."""

    budget: Budget
    begin: datetime
    end: datetime
    account: Account

    def is_of(self, caller: Caller, model: str, at: datetime) -> bool:
        return self.begin <= at < self.end and self.budget.is_of(caller=caller, model=model)

    def settle(self, receipt: Receipt) -> None:
        if not self.is_of(receipt.facts.caller, receipt.facts.model, _at(receipt)):
            return
        holds = [hold for hold in receipt.holds if hold.account == self.budget.account]
        self.account.settle(
            charge=receipt.charge,
            holder=min((hold.holder for hold in holds), default=None),
            held=sum(hold.amount for hold in holds),
        )

    def adjust(self, one: _Adjustment) -> None:
        if self.is_of(one.caller, one.model, one.at):
            self.account.adjust(one.amount)


class MemoryBudgetBook:
    """`ports.ledger.BudgetBook`. What its ledger book has booked is settled before every answer.

    `now_us` is the database's clock. `away = True` takes it away; with its ledger book away it is away too.
    """

    def __init__(
        self,
        ledger: MemoryLedgerBook | None = None,
        *,
        now_us: Callable[[], int] = lambda: 0,
        lease_s: float = 60.0,
    ) -> None:
        self.away = False
        #: By account and the first moment of its period.
        self.kept: dict[tuple[str, datetime], _Kept] = {}
        self._ledger = MemoryLedgerBook() if ledger is None else ledger
        self._now_us = now_us
        self._lease_s = lease_s
        self._settled = 0
        self._adjustments: list[_Adjustment] = []
        self._gone: dict[str, None] = {}

    async def lease(self, wanted: Sequence[LeaseWanted], *, holder: str) -> Sequence[LeaseGranted]:
        self._answer_or_be_away()
        return tuple(self._lease(one, holder=holder) for one in wanted)

    async def sweep(self) -> int:
        self._answer_or_be_away()
        return sum(len(kept.account.expire(now_us=self._now_us())) for kept in self.kept.values())

    async def close(self, holder: str) -> int:
        self._answer_or_be_away()
        self._gone[holder] = None
        not_closed = 0
        for kept in self.kept.values():
            lease = kept.account.leases.get(holder)
            not_closed += lease is not None and lease.state is not LeaseState.CLOSED
            kept.account.close(holder)
        return not_closed

    async def standings(self, budgets: Sequence[LeaseWanted]) -> Sequence[Standing | None]:
        self._answer_or_be_away()
        found = (self.kept.get((one.budget.account, one.begin)) for one in budgets)
        return tuple(None if kept is None else kept.account.standing() for kept in found)

    def adjust(self, *, caller: Caller, model: str, at: datetime, amount: int) -> None:
        """A correction of a receipt of that caller at that moment was booked."""
        self._answer_or_be_away()
        one = _Adjustment(caller, model, at, amount)
        self._adjustments.append(one)
        for kept in self.kept.values():
            kept.adjust(one)

    def _lease(self, wanted: LeaseWanted, *, holder: str) -> LeaseGranted:
        account = self._opened(wanted).account
        lease = account.take(
            holder,
            cap=wanted.budget.amount,
            need=wanted.need,
            want=wanted.want,
            returned=wanted.returned,
            now_us=self._now_us(),
            ttl_us=round(self._lease_s * 1_000_000),
        )
        return LeaseGranted(
            account=wanted.budget.account,
            begin=wanted.begin,
            granted=Nanodollars(lease.granted),
            standing=account.standing(),
            expires_in_s=self._lease_s,
        )

    def _opened(self, wanted: LeaseWanted) -> _Kept:
        place = (wanted.budget.account, wanted.begin)
        kept = self.kept.get(place)
        if kept is None:
            account = Account(cap=wanted.budget.amount)
            kept = self.kept[place] = _Kept(wanted.budget, wanted.begin, wanted.end, account)
            for receipt in self._ledger.receipts.values():
                kept.settle(receipt)
            for one in self._adjustments:
                kept.adjust(one)
            account.overrun = 0  # what it was spent before it was opened was never held of it
            for holder in self._gone:
                account.close(holder)
        return kept

    def _answer_or_be_away(self) -> None:
        if self.away:
            raise BooksAway("the books are away: try again")
        self._ledger.answer_or_be_away()
        receipts = list(self._ledger.receipts.values())
        fresh, self._settled = receipts[self._settled :], len(receipts)
        for receipt in fresh:
            for kept in self.kept.values():
                kept.settle(receipt)


def _at(receipt: Receipt) -> datetime:
    return EPOCH + timedelta(microseconds=receipt.at_us)
