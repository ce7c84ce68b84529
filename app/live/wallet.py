"""The wallet: what this process may spend of each budget, from leases that it took ahead.

A machine without I/O: `hold`, `settled` and `release` move money in memory; `wanted` says what to ask the books for,
and `told` takes in what they answered. Times are seconds of a monotonic clock, moments are aware.

    room of a purse = granted - returned - used - held

What the books keep for this process is never less than that: they learn of grants and returns before it, and of what
was used when they book the receipts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from app.domain.budget import Budget, Mode, period
from app.domain.ledger.account import Standing
from app.domain.ledger.hold import Hold
from app.domain.ledger.receipt import Receipt
from app.domain.money import ZERO, Nanodollars
from app.domain.routing.facts import RequestFacts
from app.domain.routing.policy import Policy
from app.ports.ledger import LeaseGranted, LeaseWanted

#: Room that nobody has used for so long goes back, so that other processes may have it.
IDLE_S: Final = 2.0
#: Leases are renewed after this part of the time they last.
RENEW_AFTER: Final = 1 / 3
#: A grant beyond the need asks for this many holds like the largest one of late.
HOLDS_AHEAD: Final = 16
#: After the end of its period a purse is remembered so long: no clock that jumps, and no request that is late, gets a
#: new one.
REMEMBERED: Final = timedelta(days=2)
#: So many callers' lists of budgets are remembered.
_CALLERS_MOST: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Short:
    """There is no room. `standing` is what the books said of the budget last; None: they have not been asked yet."""

    budget: Budget
    end: datetime
    needed: Nanodollars
    standing: Standing | None

    @property
    def is_hopeless(self) -> bool:
        """Even if every lease came back there would not be enough."""
        seen = self.standing
        return seen is not None and seen.cap - seen.spent - seen.lost < self.needed


class Wallet:
    """One process's leases. `holder` names it to the books."""

    def __init__(self, *, holder: str) -> None:
        self.holder = holder
        self._purses: dict[tuple[str, datetime], _Purse] = {}
        self._now: dict[str, _Purse] = {}
        self._policy: Policy | None = None
        self._of: dict[tuple[str, str], tuple[Budget, ...]] = {}

    # ── of a request ─────────────────────────────────────────────────────────────────────────────────────────────────

    def budgets_of(self, facts: RequestFacts, policy: Policy) -> tuple[Budget, ...]:
        """The budgets that hold for this request, in the order of their names; watched ones do not."""
        if policy is not self._policy:
            self._policy, self._of = policy, {}
        if not policy.budgets:
            return ()
        whose = (facts.caller.key_id, facts.model)
        found = self._of.get(whose)
        if found is None:
            if len(self._of) >= _CALLERS_MOST:
                self._of.clear()
            found = self._of[whose] = tuple(
                budget
                for _, budget in sorted(policy.budgets.items())
                if budget.mode is not Mode.WATCH and budget.is_of(caller=facts.caller, model=facts.model)
            )
        return found

    def hold(
        self, needs: Sequence[tuple[Budget, Nanodollars]], *, at: datetime, now_s: float
    ) -> tuple[Hold, ...] | Short:
        """Set aside so much of each budget, of all or of none. `at`: the request's own moment, in the policy's
        timezone."""
        purses = [(self._purse(budget, at), amount) for budget, amount in needs]
        for purse, amount in purses:
            if purse.room < amount:
                return Short(
                    budget=purse.budget,
                    end=purse.end,
                    needed=amount,
                    standing=purse.standing,
                )
        for purse, amount in purses:
            purse.held += amount
            purse.used_s = now_s
            purse.largest = max(purse.largest, amount)
        return tuple(Hold(account=purse.budget.account, holder=self.holder, amount=amount) for purse, amount in purses)

    def wait_for(self, needs: Iterable[tuple[Budget, Nanodollars]], *, at: datetime) -> Callable[[], None]:
        """From now on `wanted` asks for what is missing to these, until the answer is called."""
        waiting = [(self._purse(budget, at), amount) for budget, amount in needs]
        for purse, amount in waiting:
            purse.waiting.append(amount)

        def done() -> None:
            for purse, amount in waiting:
                purse.waiting.remove(amount)

        return done

    def settled(self, receipt: Receipt) -> None:
        """The receipt is kept: what was held for it is free again, what it cost is gone."""
        for hold in receipt.holds:
            purse = self._purse_at(hold.account, receipt.at_us)
            if purse is not None:
                purse.held -= hold.amount
                purse.used += receipt.charge

    def release(self, holds: Iterable[Hold], *, at_us: int) -> None:
        """Nothing was dispatched under these."""
        for hold in holds:
            purse = self._purse_at(hold.account, at_us)
            if purse is not None:
                purse.held -= hold.amount

    # ── towards the books ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_waited_for(self) -> bool:
        """Somebody waits for room."""
        return any(purse.waiting for purse in self._purses.values())

    def wanted(self, policy: Policy, *, at: datetime, now_s: float, leaving: bool = False) -> list[LeaseWanted]:
        """What to tell the books now: wishes, what goes back, renewals. `leaving`: everything that is free goes back.

        `at` is now, in the policy's timezone. Purses of periods and budgets that are over are emptied, and forgotten
        only long after: the books tell what was granted as a total, and who no longer knew what it had given back and
        used of that would take all of it for room.
        """
        found = []
        for key, purse in list(self._purses.items()):
            current = policy.budgets.get(purse.budget.name)
            is_over = at >= purse.end or current is None or current.account != purse.budget.account
            if current is not None and not is_over and current is not purse.budget:
                purse.is_changed = purse.is_changed or current.amount != purse.budget.amount
                purse.budget = current
            if leaving or is_over:
                purse.give_back()
                if at >= purse.end + REMEMBERED and purse.is_empty:
                    del self._purses[key]
                    self._now.pop(purse.budget.account, None)
                    continue
            elif not purse.waiting and (purse.is_changed or now_s - purse.used_s >= IDLE_S):
                purse.give_back()
            wish = purse.wish(now_s=now_s, leaving=leaving or is_over)
            if wish is not None:
                found.append(wish)
        return found

    def told(self, wanted: Sequence[LeaseWanted], answers: Sequence[LeaseGranted], *, now_s: float) -> None:
        """What the books answered to `wanted`, in its order."""
        for asked, answer in zip(wanted, answers, strict=True):
            purse = self._purses.get((answer.account, answer.begin))
            if purse is None:
                continue
            purse.granted = max(purse.granted, answer.granted)
            purse.told_returned = max(purse.told_returned, asked.returned)
            purse.standing = answer.standing
            purse.renew_s = now_s + answer.expires_in_s * RENEW_AFTER
            purse.is_changed = False

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _purse(self, budget: Budget, at: datetime) -> _Purse:
        account = budget.account
        purse = self._now.get(account)
        if purse is None or not purse.begin <= at < purse.end:
            begin, end = period(budget.every, at=at)
            purse = self._purses.get((account, begin))
            if purse is None:
                purse = self._purses[account, begin] = _Purse(budget, begin=begin, end=end)
            self._now[account] = purse
        return purse

    def _purse_at(self, account: str, at_us: int) -> _Purse | None:
        purse = self._now.get(account)
        if purse is not None and purse.begin_us <= at_us < purse.end_us:
            return purse
        return next(
            (
                each
                for (name, _), each in self._purses.items()
                if name == account and each.begin_us <= at_us < each.end_us
            ),
            None,
        )


class _Purse:
    """One budget in one period, as this process holds it."""

    __slots__ = (
        "begin",
        "begin_us",
        "budget",
        "end",
        "end_us",
        "granted",
        "held",
        "is_changed",
        "largest",
        "renew_s",
        "returned",
        "standing",
        "told_returned",
        "used",
        "used_s",
        "waiting",
    )

    def __init__(self, budget: Budget, *, begin: datetime, end: datetime) -> None:
        self.budget = budget
        self.begin, self.end = begin, end
        self.begin_us, self.end_us = (int(each.timestamp()) * 1_000_000 for each in (begin, end))
        self.granted = self.returned = self.told_returned = self.used = self.held = self.largest = 0
        self.used_s = self.renew_s = 0.0
        self.waiting: list[int] = []
        self.standing: Standing | None = None
        self.is_changed = False

    @property
    def room(self) -> int:
        return self.granted - self.returned - self.used - self.held

    @property
    def is_empty(self) -> bool:
        """Nothing is held, nobody waits, and the books know that everything went back."""
        return not self.held and not self.waiting and self.room <= 0 and self.told_returned == self.returned

    def give_back(self) -> None:
        """All that is not held is no longer ours."""
        self.returned += max(self.room, 0)
        self.largest = 0

    def wish(self, *, now_s: float, leaving: bool) -> LeaseWanted | None:
        """What to tell the books of this purse; None: nothing."""
        need = want = 0
        if self.waiting:
            # The smallest first: who needs much must not keep those from going on who need little.
            need = max(min(self.waiting) - self.room, 0)
            want = max(sum(self.waiting), max(self.waiting) * HOLDS_AHEAD) - self.room
        elif not leaving and self.largest and self.room < self.largest * HOLDS_AHEAD // 2:
            want = self.largest * HOLDS_AHEAD - self.room
        is_due = bool(self.granted) and now_s >= self.renew_s and not self.is_empty
        if not (need or want or is_due or self.is_changed or self.told_returned != self.returned):
            return None
        return LeaseWanted(
            budget=self.budget,
            begin=self.begin,
            end=self.end,
            need=Nanodollars(need),
            want=Nanodollars(want),
            returned=Nanodollars(self.returned),
        )


def grown(holds: Sequence[Hold], more: Sequence[Hold]) -> tuple[Hold, ...]:
    """The holds of a request after more was held for a further attempt, budget by budget in the same order."""
    if not holds:
        return tuple(more)
    by_account = {hold.account: hold.amount for hold in more}
    return tuple(replace(hold, amount=Nanodollars(hold.amount + by_account.get(hold.account, ZERO))) for hold in holds)
