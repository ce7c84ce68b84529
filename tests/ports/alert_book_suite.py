"""What every outbox of alerts does, the one in Postgres and the one in memory."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.alert import Alert, AlertKind, AlertState
from app.domain.money import Nanodollars
from app.ports import BooksAway
from app.ports.alerts import AlertBook, AlertClaimed
from tests.makers import NOON

USD = 1_000_000_000
#: Longer than any test takes.
LONG_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertBookAtHand:
    """A book without alerts, and what makes it go away and come back."""

    book: AlertBook
    take_away: Callable[[], Awaitable[None]]
    bring_back: Callable[[], Awaitable[None]]


def an_alert(*, usd: int = 100, part_ppm: int = 800_000, **other: object) -> Alert:
    """One of the budget "research"; each call makes another id."""
    return replace(
        Alert(
            alert_id=str(uuid.uuid4()),
            kind=AlertKind.SPENT,
            threshold_ppm=part_ppm,
            budget="research",
            account="research:month/research////",
            begin=NOON - timedelta(days=22),
            end=NOON + timedelta(days=7),
            amount=Nanodollars(usd * USD),
            spent=Nanodollars(81 * USD),
            used_up_at=NOON + timedelta(days=3),
            raised_at=NOON,
        ),
        **other,  # type: ignore[arg-type]
    )


async def claimed(book: AlertBook, *, most: int = 10, for_s: float = LONG_S) -> list[AlertClaimed]:
    return list(await book.claim(most=most, for_s=for_s, fresh_s=LONG_S))


class AlertBookSuite:
    """Subclasses give the fixture `at_hand`."""

    async def test_an_alert_is_kept_as_it_was_raised_and_waits(self, at_hand: AlertBookAtHand) -> None:
        alert = an_alert()
        assert list(await at_hand.book.fire([alert])) == [alert.alert_id]
        (kept,) = await at_hand.book.latest(most=10)
        assert (kept.alert, kept.state, kept.attempts) == (alert, AlertState.WAITING, 0)
        assert (kept.last_error, kept.delivered_at) == (None, None)
        assert kept.next_at is not None

    async def test_the_same_crossing_is_kept_once_whoever_raises_it(self, at_hand: AlertBookAtHand) -> None:
        fired = await asyncio.gather(*(at_hand.book.fire([an_alert(), an_alert(part_ppm=500_000)]) for _ in range(8)))
        assert sorted(len(ids) for ids in fired) == [0, 0, 0, 0, 0, 0, 0, 2]
        assert len(await at_hand.book.latest(most=10)) == 2

    async def test_nothing_raised_is_nothing_kept(self, at_hand: AlertBookAtHand) -> None:
        assert list(await at_hand.book.fire([])) == []

    @pytest.mark.parametrize(
        "other",
        [
            {"account": "legal:month/legal////"},
            {"begin": NOON - timedelta(days=52)},
            {"kind": AlertKind.FORECAST},
            {"threshold_ppm": 500_000},
        ],
    )
    async def test_another_budget_period_kind_or_threshold_is_another_alert(
        self, at_hand: AlertBookAtHand, other: dict[str, object]
    ) -> None:
        await at_hand.book.fire([an_alert()])
        assert len(await at_hand.book.fire([an_alert(**other)])) == 1

    async def test_a_raised_amount_arms_it_again_and_a_lowered_one_does_not(self, at_hand: AlertBookAtHand) -> None:
        fired = [len(await at_hand.book.fire([an_alert(usd=usd)])) for usd in (100, 50, 100, 200, 150, 200, 201)]
        assert fired == [1, 0, 0, 1, 0, 0, 1]

    async def test_what_is_claimed_is_nobody_elses_and_comes_oldest_first(self, at_hand: AlertBookAtHand) -> None:
        alerts = [an_alert(part_ppm=part) for part in (1, 2, 3)]
        for alert in alerts:
            await at_hand.book.fire([alert])
        first, rest = await claimed(at_hand.book, most=2), await claimed(at_hand.book)
        assert [one.alert for one in (*first, *rest)] == alerts
        assert await claimed(at_hand.book) == []

    async def test_many_who_claim_at_once_get_each_alert_once(self, at_hand: AlertBookAtHand) -> None:
        await at_hand.book.fire([an_alert(part_ppm=part) for part in range(20)])
        takings = await asyncio.gather(*(claimed(at_hand.book, most=20) for _ in range(6)))
        ids = [one.alert.alert_id for taking in takings for one in taking]
        assert len(ids) == len(set(ids)) == 20

    async def test_what_a_process_claimed_and_never_told_of_is_claimed_again(self, at_hand: AlertBookAtHand) -> None:
        await at_hand.book.fire([an_alert()])
        (first,) = await claimed(at_hand.book, for_s=0)
        (second,) = await claimed(at_hand.book)
        assert (first.attempt, second.attempt, first.alert) == (1, 2, second.alert)

    async def test_a_delivered_alert_is_never_claimed_again(self, at_hand: AlertBookAtHand) -> None:
        await at_hand.book.fire([an_alert()])
        (one,) = await claimed(at_hand.book, for_s=0)
        await at_hand.book.delivered(one)
        assert await claimed(at_hand.book) == []
        (kept,) = await at_hand.book.latest(most=10)
        assert (kept.state, kept.attempts, kept.next_at) == (AlertState.DELIVERED, 1, None)
        assert kept.delivered_at is not None

    async def test_a_failed_alert_is_due_again_after_its_pause_and_says_why(self, at_hand: AlertBookAtHand) -> None:
        await at_hand.book.fire([an_alert()])
        (one,) = await claimed(at_hand.book)
        await at_hand.book.failed(one, error="answered 500", again_in_s=LONG_S)
        assert await claimed(at_hand.book) == []
        await at_hand.book.fire([an_alert(part_ppm=1)])
        (other,) = await claimed(at_hand.book)
        await at_hand.book.failed(other, error="answered 502", again_in_s=0)
        (again,) = await claimed(at_hand.book)
        assert (again.alert, again.attempt) == (other.alert, 2)
        assert {kept.last_error for kept in await at_hand.book.latest(most=10)} == {"answered 500", "answered 502"}

    async def test_a_dead_alert_is_kept_and_never_sent(self, at_hand: AlertBookAtHand) -> None:
        await at_hand.book.fire([an_alert()])
        (one,) = await claimed(at_hand.book, for_s=0)
        await at_hand.book.failed(one, error="answered 410", again_in_s=None)
        assert await claimed(at_hand.book) == []
        (kept,) = await at_hand.book.latest(most=10)
        assert (kept.state, kept.last_error, kept.next_at) == (AlertState.DEAD, "answered 410", None)
        assert list(await at_hand.book.fire([an_alert()])) == []

    async def test_whose_claim_ran_out_decides_nothing_any_more(self, at_hand: AlertBookAtHand) -> None:
        await at_hand.book.fire([an_alert()])
        (late,) = await claimed(at_hand.book, for_s=0)
        (present,) = await claimed(at_hand.book)
        await at_hand.book.failed(late, error="too late", again_in_s=None)
        await at_hand.book.delivered(late)
        (kept,) = await at_hand.book.latest(most=10)
        assert (kept.state, kept.last_error) == (AlertState.WAITING, None)
        await at_hand.book.delivered(present)
        await at_hand.book.failed(present, error="after the end", again_in_s=0)
        (kept,) = await at_hand.book.latest(most=10)
        assert (kept.state, kept.last_error) == (AlertState.DELIVERED, None)

    async def test_news_of_yesterday_is_dead_and_not_sent(self, at_hand: AlertBookAtHand) -> None:
        await at_hand.book.fire([an_alert()])
        assert list(await at_hand.book.claim(most=10, for_s=0, fresh_s=0)) == []
        (kept,) = await at_hand.book.latest(most=10)
        assert (kept.state, kept.last_error) == (AlertState.DEAD, "no webhook was set while it was new")

    async def test_alerts_of_long_ago_are_forgotten_when_new_ones_come(self, at_hand: AlertBookAtHand) -> None:
        long_ago = datetime(1960, 1, 1, tzinfo=UTC)
        old = an_alert(begin=long_ago, end=long_ago + timedelta(days=30))
        await at_hand.book.fire([old])
        assert len(await at_hand.book.latest(most=10)) == 1
        new = an_alert()
        await at_hand.book.fire([new])
        assert [kept.alert for kept in await at_hand.book.latest(most=10)] == [new]

    async def test_the_newest_are_listed_first_and_only_so_many(self, at_hand: AlertBookAtHand) -> None:
        alerts = [an_alert(part_ppm=part) for part in (1, 2, 3)]
        for alert in alerts:
            await at_hand.book.fire([alert])
        assert [kept.alert for kept in await at_hand.book.latest(most=2)] == [alerts[2], alerts[1]]

    async def test_a_book_that_is_away_says_so_and_knows_all_when_it_is_back(self, at_hand: AlertBookAtHand) -> None:
        await at_hand.book.fire([an_alert()])
        await at_hand.take_away()
        one = AlertClaimed(alert=an_alert(), attempt=1)
        for call in (
            at_hand.book.fire([an_alert()]),
            at_hand.book.claim(most=1, for_s=1, fresh_s=1),
            at_hand.book.delivered(one),
            at_hand.book.failed(one, error="x", again_in_s=1),
            at_hand.book.latest(most=1),
        ):
            with pytest.raises(BooksAway):
                await call
        await at_hand.bring_back()
        assert list(await at_hand.book.fire([an_alert()])) == []
        assert len(await claimed(at_hand.book)) == 1
