"""When a budget will be used up, if it goes on as before."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

#: Fewer days say too little (finance tools ask for as many).
LEAST: Final = timedelta(days=3)
_MICROSECOND: Final = timedelta(microseconds=1)


def used_up_at(*, spent: int, amount: int, begin: datetime, end: datetime, at: datetime) -> datetime | None:
    """The moment, linear: amount ÷ (spent ÷ time so far) after `begin`. None: not within the period, or too early.

    A budget that is used up already is so now. Moments are aware; `at` lies in the period.
    """
    if amount <= spent:
        return at
    so_far = at - begin
    if so_far < LEAST or spent <= 0:
        return None
    # Whole microseconds, so that no float meets money, and plain integers: a timedelta times nanodollars overflows.
    whole_us = so_far // _MICROSECOND * amount // spent
    return begin + whole_us * _MICROSECOND if whole_us < (end - begin) // _MICROSECOND else None
