from __future__ import annotations

from app.flows.keys import BooksWatcher
from app.flows.ship import ShippingWatcher
from app.live.books_seen import BooksSeen


def test_postgres_is_neither_there_nor_away_before_anybody_asked() -> None:
    assert BooksSeen().are_there is None


def test_whoever_asked_last_is_believed() -> None:
    seen = BooksSeen()
    told: tuple[BooksWatcher, ShippingWatcher] = (seen, seen)
    assert set(told) == {seen}
    seen.books_away()
    assert seen.are_there is False
    seen.books_answered()
    assert seen.are_there is True
    seen.books_away()
    for count in (500, 0, 3):
        seen.shipped(count)
    assert (seen.are_there, seen.booked) == (True, 503)
