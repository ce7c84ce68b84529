"""Money set aside for a request before it is dispatched."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.money import Nanodollars


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What a receipt says was held for it of one budget: the upper bound of its charge, out of `holder`'s lease.

    The budget's period is the one around the receipt's own time, `at_us`, whenever it is settled.
    """

    #: The budget's key (`domain.budget.Budget.account`): its name and what it is of.
    account: str
    #: The home of the spool of the process that held it.
    holder: str
    amount: Nanodollars
