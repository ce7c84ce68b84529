"""What every spend book does, the one in Postgres and the one in memory. Figures are worked out by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest

from app.domain.budget import Budget, Every, period
from app.domain.ledger.receipt import Receipt
from app.domain.money import Nanodollars
from app.ports import BooksAway, LedgerBook, SpendBook
from app.storage.receipt_json import encode
from tests.makers import a_caller, a_receipt, an_attempt, some_facts

KOLKATA, KATHMANDU = timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=5, minutes=45))
BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
STEP = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendBookAtHand:
    """A spend book, the ledger book that feeds it, and what makes them go away and come back."""

    book: SpendBook
    ledger: LedgerBook
    take_away: Callable[[], Awaitable[None]]
    bring_back: Callable[[], Awaitable[None]]

    async def spent(self, budget: Budget, *receipts: Receipt, zone: tzinfo = UTC, at: datetime = NOON) -> int:
        """What is spent in the period around `at`, after these were booked."""
        await self.ledger.book([encode(receipt) for receipt in receipts])
        begin, end = period(budget.every, at=at.astimezone(zone))
        return await self.book.spent(budget, begin=begin, end=end)


def a_budget(every: Every = Every.DAY, **of: str) -> Budget:
    return Budget(name="b", amount=Nanodollars(10**12), every=every, **of)


def told(number: int, at: datetime, charge: int, *, model: str = "chat", **caller: object) -> Receipt:
    identity = f"019ab000-0000-7000-8000-{number:012x}"
    facts = some_facts(request_id=identity, model=model, caller=a_caller(**caller))
    attempt = an_attempt(attempt_id=f"{identity}/1", charge=Nanodollars(charge))
    at_us = (at - datetime(1970, 1, 1, tzinfo=UTC)) // STEP
    return a_receipt(attempt, request_id=identity, at_us=at_us, facts=facts)


def around(begin: datetime, end: datetime) -> Sequence[Receipt]:
    """Just outside, just inside, and in the middle; what is inside sums to 1110."""
    moments = ((begin - STEP, 1), (begin, 10), (begin + (end - begin) / 2, 100), (end - STEP, 1000), (end, 10_000))
    return [told(number, at, charge, tags=("batch", "night")) for number, (at, charge) in enumerate(moments)]


class SpendBookSuite:
    """Subclasses give the fixture `at_hand`."""

    @pytest.mark.parametrize("of", [{}, {"key": "abcdefgh"}, {"tag": "batch"}], ids=["all", "a key", "a tag"])
    @pytest.mark.parametrize("every", Every)
    @pytest.mark.parametrize("zone", [UTC, BERLIN, NEW_YORK, KOLKATA, KATHMANDU], ids=str)
    async def test_a_period_holds_what_was_spent_within_it_to_the_microsecond(
        self, at_hand: SpendBookAtHand, zone: tzinfo, every: Every, of: dict[str, str]
    ) -> None:
        begin, end = period(every, at=NOON.astimezone(zone))
        given = around(begin.astimezone(UTC), end.astimezone(UTC))
        assert await at_hand.spent(a_budget(every, **of), *given, zone=zone) == 1110

    async def test_a_day_on_which_the_clock_is_put_back_has_25_hours(self, at_hand: SpendBookAtHand) -> None:
        noon = datetime(2026, 10, 25, 12, tzinfo=BERLIN)
        begin, end = period(Every.DAY, at=noon)
        given = around(begin.astimezone(UTC), end.astimezone(UTC))
        assert end.astimezone(UTC) - begin.astimezone(UTC) == timedelta(hours=25)
        assert await at_hand.spent(a_budget(), *given, zone=BERLIN, at=noon) == 1110

    async def test_only_what_the_budget_is_of_counts(self, at_hand: SpendBookAtHand) -> None:
        given = (
            told(1, NOON, 1, team="a", cost_centre="x", key_id="k1", model="chat", tags=("batch", "night")),
            told(2, NOON, 10, team="a", cost_centre="y", key_id="k2", model="embed", tags=("night",)),
            told(3, NOON, 100, team="b", cost_centre="x", key_id="k1", model="chat", tags=("batch",)),
        )
        assert await at_hand.spent(a_budget(), *given) == 111
        for of, spent in (
            ({"team": "a"}, 11),
            ({"cost_centre": "x"}, 101),
            ({"key": "k1"}, 101),
            ({"model": "embed"}, 10),
            ({"tag": "batch"}, 101),
            ({"tag": "night"}, 11),
            ({"tag": "batch", "team": "a"}, 1),
            ({"tag": "nigh"}, 0),
            ({"team": "a", "cost_centre": "x"}, 1),
            ({"team": "a", "key": "k1", "model": "chat", "cost_centre": "x"}, 1),
            ({"team": "nobody"}, 0),
            ({"key": "nobody"}, 0),
        ):
            assert await at_hand.spent(a_budget(Every.DAY, **of)) == spent, of

    async def test_copies_for_shadows_are_spent_too(self, at_hand: SpendBookAtHand) -> None:
        answer = told(1, NOON, 1)
        copy = replace(told(2, NOON, 10), shadow_of=answer.request_id)
        assert await at_hand.spent(a_budget(), answer, copy) == 11
        assert await at_hand.spent(a_budget(key="abcdefgh")) == 11

    async def test_a_period_within_one_hour_is_read_too(self, at_hand: SpendBookAtHand) -> None:
        await at_hand.spent(a_budget(), told(1, NOON + timedelta(minutes=20), 7))
        begin, end = NOON + timedelta(minutes=10), NOON + timedelta(minutes=30)
        for budget in (a_budget(), a_budget(key="abcdefgh")):
            assert await at_hand.book.spent(budget, begin=begin, end=end) == 7
            assert await at_hand.book.spent(budget, begin=end, end=end + timedelta(minutes=10)) == 0

    async def test_nothing_booked_is_nothing_spent(self, at_hand: SpendBookAtHand) -> None:
        assert await at_hand.spent(a_budget()) == 0

    async def test_a_book_that_is_away_says_so_and_serves_again_when_it_is_back(self, at_hand: SpendBookAtHand) -> None:
        await at_hand.spent(a_budget(), told(1, NOON, 5))
        await at_hand.take_away()
        with pytest.raises(BooksAway):
            await at_hand.book.spent(a_budget(), begin=NOON, end=NOON)
        await at_hand.bring_back()
        assert await at_hand.spent(a_budget()) == 5
