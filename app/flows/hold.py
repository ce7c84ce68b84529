"""Money is held before a request is dispatched: from this process's leases, and when those are short from the books.

Who is short waits for one call to Postgres that all who wait share, and then a moment for what others hold and may not
need. Whom nobody can help any more is refused at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from app.domain.budget import Budget, Mode
from app.domain.errors import BadRequest, BudgetExceeded, LedgerUnavailable
from app.domain.ledger.hold import Hold
from app.domain.ledger.receipt import Receipt
from app.domain.ledger.upper_bound import Bounds
from app.domain.money import Nanodollars, shown
from app.domain.pricing.rate_card import RateCard
from app.domain.routing.facts import RequestFacts
from app.domain.routing.policy import Policy
from app.live.policy_slot import PolicySlot
from app.live.wallet import Short, Wallet
from app.ports import BooksAway, Clock
from app.ports.deadline import Within
from app.ports.ledger import BudgetBook

#: A request that is short waits so long for what others hold and may not need.
PATIENCE_S: Final = 1.0
#: And so long at a fallback, after it has waited for its first choice.
FALLBACK_PATIENCE_S: Final = 0.25
#: Between two questions to the books while somebody waits.
ASK_AGAIN_S: Final = 0.05
#: Between two looks at what is due when nobody waits.
TICK_S: Final = 0.5
#: Books that have not answered after so long are away.
ANSWER_WITHIN_S: Final = 2.0
UNBOUNDED: Final = "unbounded_cost"

Needs = Sequence[tuple[Budget, Nanodollars]]


class NoRoom(BudgetExceeded):
    """A budget is short of what an attempt has to hold. `short` says of how much."""

    def __init__(self, short: Short, *, bounded_by: str = "", mend: str = "ask for fewer tokens") -> None:
        budget, standing = short.budget, short.standing
        # What is left is what `breakeven budget list` calls so.
        left = "" if standing is None else f"; ${shown(standing.room)} are neither spent nor set aside"
        super().__init__(
            f'the budget "{budget.name}" (${shown(budget.amount)} a {budget.every.value}) has no room for this '
            f"request, which holds at least ${shown(short.needed)}{bounded_by}{left}. It begins anew at "
            f"{short.end.isoformat()}; {mend}, or have it raised",
            budget=budget.name,
            resets_at=short.end,
        )
        self.short = short


class Treasury:
    """Holds for requests. `keep` beside it does the talking with the books."""

    def __init__(self, *, clock: Clock, wallet: Wallet, policy: PolicySlot) -> None:
        self.wallet = wallet
        self._clock = clock
        self._policy = policy
        self._called = asyncio.Event()
        self._round = asyncio.Event()
        self._is_away = False

    def budgets_of(self, facts: RequestFacts, policy: Policy) -> tuple[Budget, ...]:
        """The budgets that hold for this request; for most there are none."""
        return self.wallet.budgets_of(facts, policy)

    async def hold(self, needs: Needs, *, at: datetime, patience_s: float = PATIENCE_S) -> tuple[Hold, ...]:
        """Set aside so much of each budget; `at` is the request's moment in the policy's timezone.

        Raises NoRoom, and LedgerUnavailable when the books cannot be asked; nothing is held then.
        """
        found = self.hold_now(needs, at=at)
        if not isinstance(found, Short):
            return found
        deadline_s = self._clock.monotonic_s() + patience_s
        done = self.wallet.wait_for(needs, at=at)
        self._called.set()
        try:
            while isinstance(found, Short):
                asked = await self._next_round()
                found = self.hold_now(needs, at=at)
                if isinstance(found, Short):
                    if self._is_away or not asked:
                        raise LedgerUnavailable(
                            f'the budget "{found.budget.name}" has no room left in this process, and Postgres, where '
                            "more is kept, is away: try again"
                        )
                    if found.is_hopeless or self._clock.monotonic_s() >= deadline_s:
                        raise NoRoom(found)
        finally:
            done()
        return found

    def hold_now(self, needs: Needs, *, at: datetime) -> tuple[Hold, ...] | Short:
        """The same from what is here; nobody is asked."""
        return self.wallet.hold(needs, at=at, now_s=self._clock.monotonic_s())

    def settled(self, receipt: Receipt) -> None:
        """A receipt with holds is kept."""
        self.wallet.settled(receipt)

    def release(self, receipt: Receipt) -> None:
        """A receipt with holds that is kept nowhere, of a request that was never dispatched."""
        self.wallet.release(receipt.holds, at_us=receipt.at_us)

    async def keep(self, book: BudgetBook) -> None:
        """Ask, renew and give back, for ever, until cancelled."""
        while True:
            pause_s = ASK_AGAIN_S if self.wallet.is_waited_for else TICK_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._called.wait()
            self._called.clear()
            await self._tell(book, leaving=False)
            done, self._round = self._round, asyncio.Event()
            done.set()

    async def leave(self, book: BudgetBook) -> None:
        """At the end: what is free goes back. Best effort: what stays is closed when the spool is booked."""
        await self._tell(book, leaving=True)

    async def _next_round(self) -> bool:
        """Wait until the books have been asked once more; False when they say nothing: nobody knows what is left."""
        ours = self._round
        with contextlib.suppress(TimeoutError):
            async with Within(PATIENCE_S + ANSWER_WITHIN_S):
                await ours.wait()
        return ours.is_set()

    async def _tell(self, book: BudgetBook, *, leaving: bool) -> None:
        policy = self._policy.current
        at = datetime.fromtimestamp(self._clock.unix_us() / 1e6, UTC).astimezone(policy.timezone)
        wanted = self.wallet.wanted(policy, at=at, now_s=self._clock.monotonic_s(), leaving=leaving)
        if not wanted:
            return
        sent_s = self._clock.monotonic_s()
        try:
            async with Within(ANSWER_WITHIN_S):
                answers = await book.lease(wanted, holder=self.wallet.holder)
        except (BooksAway, TimeoutError):
            self._is_away = True
            return
        self._is_away = False
        self.wallet.told(wanted, answers, now_s=sent_s)


def needs_of(
    budgets: Sequence[Budget],
    facts: RequestFacts,
    *,
    bounds: Bounds | None,
    price: RateCard,
    likely_output_tokens: int,
    spent: Nanodollars,
) -> list[tuple[Budget, Nanodollars]]:
    """What each budget has to hold for an attempt, `spent` by the attempts before it included.

    Raises BadRequest with the code `unbounded_cost` for a hard budget when there are no bounds.
    """
    needs = []
    for budget in budgets:
        if bounds is None and budget.mode is Mode.HARD:
            raise BadRequest(
                f'the budget "{budget.name}" cannot hold what nothing bounds: leave out pictures and sounds, or have '
                "the operator give the target its `context_tokens`",
                code=UNBOUNDED,
                param="messages",
            )
        if bounds is None:
            continue
        if budget.mode is Mode.HARD:
            amount = bounds.worst(price)
        else:
            amount = bounds.likely(price, facts=facts, output_tokens=likely_output_tokens)
        needs.append((budget, Nanodollars(amount + spent)))
    return needs
