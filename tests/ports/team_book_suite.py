"""What every team book does, the one in Postgres and the one in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from app.domain.limits import UNLIMITED, RateLimits
from app.ports import BooksAway, RowsRefused
from app.ports.keys import Team, TeamBook


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamBookAtHand:
    """A book without teams, and what makes it go away and come back."""

    book: TeamBook
    take_away: Callable[[], Awaitable[None]]
    bring_back: Callable[[], Awaitable[None]]


RESEARCH = Team(name="research", cost_centre="cc-1", created_at_s=1_795_435_200.123456789)
LIMITED = Team(
    name="Tëam 日本",
    cost_centre="cc-2",
    created_at_s=1.0,
    limits=RateLimits(requests_per_minute=1, tokens_per_minute=10**12),
)


class TeamBookSuite:
    """Subclasses give the fixture `at_hand`."""

    async def test_teams_come_back_exactly_as_they_were_added_and_by_name(self, at_hand: TeamBookAtHand) -> None:
        await at_hand.book.add(RESEARCH)
        await at_hand.book.add(LIMITED)
        assert await at_hand.book.all() == (LIMITED, RESEARCH)

    async def test_a_name_is_given_once(self, at_hand: TeamBookAtHand) -> None:
        await at_hand.book.add(RESEARCH)
        with pytest.raises(RowsRefused):
            await at_hand.book.add(replace(RESEARCH, cost_centre="cc-9"))
        assert await at_hand.book.all() == (RESEARCH,)

    async def test_limits_change(self, at_hand: TeamBookAtHand) -> None:
        await at_hand.book.add(RESEARCH)
        assert await at_hand.book.limit("research", LIMITED.limits)
        assert (await at_hand.book.all())[0].limits == LIMITED.limits
        assert await at_hand.book.limit("research", UNLIMITED)
        assert await at_hand.book.all() == (RESEARCH,)
        assert not await at_hand.book.limit("nobody", UNLIMITED)

    async def test_a_book_that_is_away_says_so_and_serves_again_when_it_is_back(self, at_hand: TeamBookAtHand) -> None:
        await at_hand.book.add(RESEARCH)
        await at_hand.take_away()
        with pytest.raises(BooksAway):
            await at_hand.book.all()
        with pytest.raises(BooksAway):
            await at_hand.book.add(LIMITED)
        with pytest.raises(BooksAway):
            await at_hand.book.limit("research", UNLIMITED)
        await at_hand.bring_back()
        assert await at_hand.book.all() == (RESEARCH,)
