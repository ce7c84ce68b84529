"""`app.domain.ledger.reconciliation`: parts that make the whole, bands, and no sum that is not proved."""

from __future__ import annotations

import pytest

from app.domain.ledger.reconciliation import (
    EXPLAIN_MOST_PPM,
    GREEN_MOST_PPM,
    LARGEST_KEPT,
    Band,
    Cause,
    Compared,
    Finding,
    PartsDisagree,
    Tally,
)
from app.domain.money import Nanodollars
from tests.billing import MIDNIGHT, THE_DAY

DAY = MIDNIGHT.date()


def compared(ours: int, provider: int) -> Compared:
    return Compared(ours=Nanodollars(ours), provider=Nanodollars(provider))


@pytest.mark.parametrize(
    ("ours", "provider", "band"),
    [
        (1_000_000, 1_000_000, Band.GREEN),
        (0, 0, Band.GREEN),
        (1_000_000 - GREEN_MOST_PPM, 1_000_000, Band.GREEN),
        (1_000_000 - GREEN_MOST_PPM - 1, 1_000_000, Band.EXPLAIN),
        (1_000_000 + EXPLAIN_MOST_PPM, 1_000_000, Band.EXPLAIN),
        (1_000_000 + EXPLAIN_MOST_PPM + 1, 1_000_000, Band.RED),
        (1, 0, Band.RED),
        (0, 1, Band.RED),
        # A nanodollar over the line is over it, however large the bill.
        (10**15 - 5 * 10**12, 10**15, Band.GREEN),
        (10**15 - 5 * 10**12 - 1, 10**15, Band.EXPLAIN),
    ],
)
def test_a_band_begins_exactly_where_it_is_said_to(ours: int, provider: int, band: Band) -> None:
    assert compared(ours, provider).band is band


def test_what_is_off_in_two_models_is_not_hidden_by_a_total_of_nothing() -> None:
    tally = Tally(THE_DAY)
    for model, ours, provider in (("one", 100, 200), ("two", 200, 100)):
        tally.holds(model, DAY, ours, requests=1)
        tally.bills(model, DAY, provider, requests=1)
        tally.explains(Cause.PRICE, model, DAY, provider - ours)
    result = tally.compiled()
    assert (result.total.residual, result.total.band) == (0, Band.GREEN)
    assert result.band is Band.RED
    (line,) = result.causes
    assert (line.more, line.less, line.amount) == (100, -100, 0)


@pytest.mark.parametrize("explained", [0, 1, 3])
def test_causes_that_do_not_make_the_residual_are_not_shown(explained: int) -> None:
    tally = Tally(THE_DAY)
    tally.holds("one", DAY, 5)
    tally.bills("one", DAY, 7)
    tally.explains(Cause.PRICE, "one", DAY, explained)
    with pytest.raises(PartsDisagree, match="its residual is 2"):
        tally.compiled()


def test_a_cause_of_a_day_that_nobody_has_an_account_of_is_refused() -> None:
    tally = Tally(THE_DAY)
    tally.explains(Cause.PRICE, "one", DAY, 1)
    with pytest.raises(PartsDisagree, match="one"):
        tally.compiled()


def test_nothing_against_nothing_is_green() -> None:
    result = Tally(THE_DAY).compiled()
    assert (result.band, result.causes, result.models) == (Band.GREEN, (), {})


def test_of_many_requests_the_largest_are_kept_in_a_total_order() -> None:
    tally = Tally(THE_DAY)
    for number in range(LARGEST_KEPT + 50):
        amount = Nanodollars(number if number % 2 else -number)
        tally.finds(
            Finding(
                request=f"r{number}", model="m", day=DAY, ours=None, provider=amount, causes=((Cause.PRICE, amount),)
            )
        )
    largest = tally.compiled().largest
    assert len(largest) == LARGEST_KEPT
    assert [abs(each.residual) for each in largest] == list(range(LARGEST_KEPT + 49, 49, -1))
