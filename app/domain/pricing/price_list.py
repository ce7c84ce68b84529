"""Prices that change: cards with the days they are in force, so that a price is that of a moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from app.domain.pricing.rate_card import RateCard


@dataclass(frozen=True, slots=True, kw_only=True)
class DatedCard:
    """A card from the first moment of `valid_from` to the last before `valid_to`, both days in UTC.

    None: since ever, or until further notice.
    """

    card: RateCard
    valid_from: date | None = None
    valid_to: date | None = None

    def is_in_force(self, day: date) -> bool:
        """On that day (UTC) this card is the price."""
        return (self.valid_from is None or self.valid_from <= day) and (self.valid_to is None or day < self.valid_to)


def card_of_the_day(cards: Iterable[DatedCard], day: date) -> RateCard | None:
    """The card in force on that day (UTC); of two, the one that began later. None: there is no price then."""
    in_force = [dated for dated in cards if dated.is_in_force(day)]
    if not in_force:
        return None
    return max(in_force, key=lambda dated: dated.valid_from or date.min).card
