"""The money of one gateway process: its leases of budgets, and those of processes that are gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from app.flows.hold import Treasury
from app.flows.sweep import sweep_leases
from app.live.policy_slot import PolicySlot
from app.live.wallet import Wallet
from app.ports import BooksAway, Clock
from app.storage.budget_book import PostgresBudgetBook
from app.storage.engine import Database
from app.storage.spool import Spool
from app.system import jitter

#: Between two looks for processes whose last records are booked now.
LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """What `gateway` starts and ends. The holder of leases is the home of the process's spool."""

    treasury: Treasury
    book: PostgresBudgetBook
    spool: Spool
    #: What else is kept under the home of a process, and ends with it.
    close_too: Callable[[str], Awaitable[None]]

    def beside(self) -> list[Coroutine[Any, Any, None]]:
        """The work that goes on beside the requests, for ever."""
        return [self.treasury.keep(self.book), sweep_leases(self.book, jitter=jitter), self._close_the_gone()]

    async def end(self) -> None:
        """No request runs any more: what is free goes back."""
        await self.treasury.leave(self.book)

    async def ended(self) -> None:
        """The spool has been shipped as far as it could be; with nothing left there, nothing is left to hold."""
        with contextlib.suppress(BooksAway):
            await self._close_booked()
            if self.spool.depth == 0:
                await self._close(self.spool.home)

    async def _close_the_gone(self) -> None:
        while True:
            with contextlib.suppress(BooksAway):
                await self._close_booked()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _close_booked(self) -> None:
        """A home goes only after its leases are closed: a process that dies in between leaves it to the next one."""
        for home in self.spool.booked_homes():
            await self._close(home)
            self.spool.forget_home(home)

    async def _close(self, home: str) -> None:
        await self.book.close(home)
        await self.close_too(home)


def money(
    database: Database,
    spool: Spool,
    *,
    clock: Clock,
    policy: PolicySlot,
    close_too: Callable[[str], Awaitable[None]],
) -> Money:
    """The leases of this process, and the books that keep them. `close_too` is told each home whose receipts are all
    booked, before it goes."""
    treasury = Treasury(clock=clock, wallet=Wallet(holder=spool.home), policy=policy)
    return Money(treasury=treasury, book=PostgresBudgetBook(database), spool=spool, close_too=close_too)
