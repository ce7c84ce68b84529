"""Whether Postgres is there, as far as this process knows: told by all who ask it anyway."""

from __future__ import annotations


class BooksSeen:
    """Listens to who reads keys and to who ships receipts."""

    __slots__ = ("are_there", "booked")

    def __init__(self) -> None:
        #: Postgres answered when it was asked last; None: nobody has asked yet.
        self.are_there: bool | None = None
        #: Receipts that were brought there.
        self.booked = 0

    def books_answered(self) -> None:
        """Postgres answered."""
        self.are_there = True

    def books_away(self) -> None:
        """Postgres did not answer, or is late."""
        self.are_there = False

    def shipped(self, count: int) -> None:
        """Postgres answered; so many receipts were not there before."""
        self.are_there = True
        self.booked += count
