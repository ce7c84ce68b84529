"""The books are asked to prove themselves, line by line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import replace

from app.domain.ledger.invariants import Checked, Invariant
from app.flows.month_close import verify_months
from app.ports.ledger import MonthBook, VerifyBook


async def verified(
    book: VerifyBook, months: MonthBook, *, soft_accounts: Collection[str] = ()
) -> AsyncIterator[Checked]:
    """Every invariant, one after the other; closed months are added up again. Raises BooksAway."""
    async for checked in book.checks(soft_accounts=soft_accounts):
        yield await _added_up_again(checked, months) if checked.invariant is Invariant.CLOSED_MONTHS else checked


async def _added_up_again(checked: Checked, months: MonthBook) -> Checked:
    again = await verify_months(months)
    changed = tuple(f"{each.closed.month}: {fault}" for each in again for fault in each.faults)
    return replace(checked, violations=checked.violations + len(changed), named=(*checked.named, *changed))
