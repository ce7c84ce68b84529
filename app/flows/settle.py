"""A receipt becomes durable, exactly once, and then everything that reads it is told."""

from __future__ import annotations

import asyncio

from app.domain.errors import LedgerUnavailable
from app.domain.ledger.receipt import Receipt
from app.flows.gateway import Gateway


async def settle(receipt: Receipt, gateway: Gateway) -> None:
    """Returns once the receipt is durable; the caller may see the end of its answer after that and not before.

    Raises LedgerUnavailable when it cannot be kept: the answer then does not end well.
    """
    try:
        await gateway.journal.settle(receipt)
    except LedgerUnavailable:
        if receipt.attempts:
            gateway.treasury.settled(receipt)  # it is written later, or its intent is booked: nothing is held for it
        else:
            gateway.treasury.release(receipt)  # nothing was dispatched, and no intent will ever be booked
        raise
    except asyncio.CancelledError:
        _tell(receipt, gateway)  # it has only given up waiting: the journal keeps the receipt all the same
        raise
    _tell(receipt, gateway)


def settle_without_waiting(receipt: Receipt, gateway: Gateway) -> None:
    """For a caller who is gone: nobody waits for the disk, yet the record is kept."""
    gateway.journal.settle_later(receipt)
    _tell(receipt, gateway)


def _tell(receipt: Receipt, gateway: Gateway) -> None:
    if receipt.shadow_of is None:
        gateway.recent.remember(receipt)
    if receipt.holds:
        gateway.treasury.settled(receipt)
    if gateway.spilled.counts:
        gateway.spilled.settled(receipt, at_s=gateway.clock.monotonic_s())
    if gateway.budgets.counts:
        gateway.budgets.settled(receipt)
    gateway.readings.settled(receipt)
