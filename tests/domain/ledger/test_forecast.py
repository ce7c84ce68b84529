"""`app.domain.ledger.forecast`: when a budget will be used up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.domain.ledger.forecast import LEAST, used_up_at

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 12, 1, tzinfo=UTC)


def day(number: int) -> datetime:
    return BEGIN + timedelta(days=number)


@pytest.mark.parametrize(
    ("spent", "at", "ends"),
    [
        (100, day(10), None),
        (500, day(10), day(20)),
        (250, day(10), None),
        (334, day(10), BEGIN + timedelta(days=10) * 1_000 / 334),
        (1_000, day(10), day(10)),
        (1_200, day(1), day(1)),
        (0, day(10), None),
        (900, BEGIN + LEAST - timedelta(seconds=1), None),
        (900, BEGIN + LEAST, BEGIN + LEAST * 1_000 / 900),
    ],
)
def test_it_goes_on_as_before_and_says_nothing_too_early(spent: int, at: datetime, ends: datetime | None) -> None:
    assert used_up_at(spent=spent, amount=1_000, begin=BEGIN, end=END, at=at) == ends


def test_sums_of_thousands_of_dollars_are_no_harder_than_small_ones() -> None:
    dollar = 1_000_000_000
    assert used_up_at(spent=50_000 * dollar, amount=100_000 * dollar, begin=BEGIN, end=END, at=day(10)) == day(20)
    assert used_up_at(spent=1, amount=9 * 10**18, begin=BEGIN, end=END, at=day(10)) is None
