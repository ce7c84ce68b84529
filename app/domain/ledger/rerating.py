"""Re-rating: what a booked attempt costs by another rate card, and the adjustment that makes it so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

from app.domain.ledger.adjustment import Adjustment
from app.domain.money import Nanodollars
from app.domain.pricing.charge import charge
from app.domain.pricing.rate_card import RateCard
from app.domain.usage import Usage

#: The price of a target (by its name) for attempts that were dispatched on a day (UTC); None: it is not known.
NewPrice = Callable[[str, date], RateCard | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """A booked attempt as it stands now, with all its adjustments."""

    attempt_id: str
    target: str
    upstream_model: str
    #: When it was dispatched; its price is that of this day, in UTC.
    started_at: datetime
    #: With the tokens that adjustments added.
    usage: Usage
    #: The card that its charge goes by: that of the last price correction, else the one on its row.
    rate_card_digest: str
    #: What its tokens cost so far: the charge on its row, and every adjustment of prices or tokens.
    charge: Nanodollars
    #: How many adjustments it has.
    adjustments: int


def re_rated(rated: Rated, *, card: RateCard, reason: str, by: str) -> Adjustment | None:
    """The adjustment after which the attempt costs what `card` says; None: it costs that already.

    Its id counts the adjustments before it. So of two corrections that did not see each other one is booked, and the
    other one finds at its next run what is left to do.
    """
    difference = charge(usage=rated.usage, price=card) - rated.charge
    if difference == 0:
        return None
    return Adjustment(
        adjustment_id=f"price/{rated.adjustments + 1}/{rated.attempt_id}",
        attempt_id=rated.attempt_id,
        reason=reason,
        by=by,
        amount=Nanodollars(difference),
        rate_card_digest=card.digest,
    )
