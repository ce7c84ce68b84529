"""What every limit book does, the one in Postgres and the one in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

import pytest

from app.ports import BooksAway
from app.ports.ledger import LimitBook, RateGranted, RateWanted, TargetSent

_T = TypeVar("_T")
#: Less than a bucket of ten a minute takes to refill by one, and than a process may be silent.
SHORT_S = 4.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitBookAtHand:
    """A book nobody has taken from, and what makes it go away and come back."""

    book: LimitBook
    take_away: Callable[[], Awaitable[None]]
    bring_back: Callable[[], Awaitable[None]]


def wanted(amount: int, *, name: str = "key/abcdefgh/requests", per_minute: int = 10) -> RateWanted:
    """Refills of one every six seconds do not show in what is told `in_short`."""
    return RateWanted(name=name, per_minute=per_minute, amount=amount)


def sent_so_far(requests: int, *, most: int) -> TargetSent:
    return TargetSent(requests=requests, tokens=0, requests_per_minute=most)


async def in_short(story: Callable[[str], Awaitable[_T]]) -> _T:
    """What a story about a fresh bucket of this name came to, when the machine gave it the time it needs."""
    for number in range(5):
        began_s = monotonic()
        told = await story(f"key/{number}/requests")
        if monotonic() - began_s < SHORT_S:
            return told
    raise AssertionError("nothing here takes a second")


class LimitBookSuite:
    """Subclasses give the fixture `at_hand`."""

    async def test_a_bucket_gives_a_minutes_worth_and_then_nothing(self, at_hand: LimitBookAtHand) -> None:
        async def story(name: str) -> list[RateGranted]:
            return [(await at_hand.book.take([wanted(4, name=name)]))[0] for _ in range(4)]

        given = await in_short(story)
        assert [one.amount for one in given] == [4, 4, 2, 0]
        assert [one.left for one in given] == [6, 2, 0, 0]
        assert 50 < given[-1].full_in_s <= 60

    async def test_answers_come_in_the_order_asked_and_buckets_are_apart(self, at_hand: LimitBookAtHand) -> None:
        asked = [wanted(3, name="z"), wanted(7, name="a"), wanted(9, name="z")]
        given = await at_hand.book.take(asked)
        assert [(one.name, one.amount) for one in given] == [("z", 3), ("a", 7), ("z", 7)]

    async def test_what_is_given_back_may_be_taken_again_up_to_a_minutes_worth(self, at_hand: LimitBookAtHand) -> None:
        async def story(name: str) -> RateGranted:
            await at_hand.book.take([wanted(10, name=name)])
            return (await at_hand.book.take([wanted(-4, name=name)]))[0]

        back = await in_short(story)
        assert (back.amount, back.left) == (-4, 4)
        (over,) = await at_hand.book.take([wanted(-100)])
        assert over.left == 10
        assert (await at_hand.book.take([wanted(11)]))[0].amount == 10

    async def test_a_bucket_refills_with_time(self, at_hand: LimitBookAtHand) -> None:
        await at_hand.book.take([wanted(60_000, per_minute=60_000)])
        taken = 0
        async with asyncio.timeout(10):
            while taken < 20:
                taken += (await at_hand.book.take([wanted(20 - taken, per_minute=60_000)]))[0].amount
        assert taken == 20

    async def test_a_lowered_limit_holds_at_once(self, at_hand: LimitBookAtHand) -> None:
        await at_hand.book.take([wanted(1, per_minute=1000)])
        assert (await at_hand.book.take([wanted(500, per_minute=5)]))[0].amount == 5

    async def test_many_at_once_get_exactly_what_there_is(self, at_hand: LimitBookAtHand) -> None:
        async def story(name: str) -> int:
            given = await asyncio.gather(*(at_hand.book.take([wanted(1, name=name)]) for _ in range(40)))
            return sum(one.amount for (one,) in given)

        assert await in_short(story) == 10

    async def test_nothing_wanted_is_nothing_given(self, at_hand: LimitBookAtHand) -> None:
        assert list(await at_hand.book.take([])) == []

    async def test_one_process_alone_may_send_all_that_is_left(self, at_hand: LimitBookAtHand) -> None:
        sent = {"home": sent_so_far(3, most=10), "open": TargetSent(requests=5, tokens=6)}
        compared = await at_hand.book.compare(holder="a", sent=sent)
        assert (compared.processes, compared.place) == (1, 0)
        assert compared.rooms == {"home": (7, None), "open": (None, None)}

    @pytest.mark.parametrize("most", [1, 3, 10, 100])
    async def test_what_all_may_send_together_is_never_more_than_the_limit(
        self, at_hand: LimitBookAtHand, most: int
    ) -> None:
        sent, rooms = dict.fromkeys("abcd", 0), dict.fromkeys("abcd", 0)
        for turn in range(40):
            holder = "abcd"[turn * 7 % 4]
            compared = await at_hand.book.compare(holder=holder, sent={"home": sent_so_far(sent[holder], most=most)})
            room, _ = compared.rooms["home"]
            assert room is not None
            rooms[holder] = room
            assert sum(sent.values()) + sum(rooms.values()) <= most
            spender = "abcd"[turn % 4]
            used = min(rooms[spender], 1 + turn % 9)
            sent[spender] += used
            rooms[spender] -= used
        assert sum(sent.values()) >= most - 4

    async def test_processes_know_how_many_they_are_and_their_places(self, at_hand: LimitBookAtHand) -> None:
        async def story(_: str) -> list[tuple[int, int]]:
            for holder in "bca":
                await at_hand.book.compare(holder=holder, sent={})
            compared = [await at_hand.book.compare(holder=holder, sent={}) for holder in "abc"]
            return [(one.processes, one.place) for one in compared]

        assert await in_short(story) == [(3, 0), (3, 1), (3, 2)]

    async def test_who_left_serves_no_more_and_claims_only_what_it_sent(self, at_hand: LimitBookAtHand) -> None:
        await at_hand.book.compare(holder="a", sent={"home": sent_so_far(3, most=10)})
        assert (await at_hand.book.compare(holder="b", sent={"home": sent_so_far(0, most=10)})).rooms["home"][0] == 0
        await at_hand.book.leave(holder="a", sent={"home": sent_so_far(4, most=10)})
        await at_hand.book.leave(holder="nobody", sent={})
        compared = await at_hand.book.compare(holder="b", sent={"home": sent_so_far(0, most=10)})
        assert (compared.processes, compared.rooms["home"][0]) == (1, 6)

    async def test_a_book_that_is_away_says_so_and_serves_again_when_it_is_back(self, at_hand: LimitBookAtHand) -> None:
        async def story(name: str) -> int:
            await at_hand.book.take([wanted(4, name=name)])
            await at_hand.take_away()
            with pytest.raises(BooksAway):
                await at_hand.book.take([wanted(1, name=name)])
            with pytest.raises(BooksAway):
                await at_hand.book.compare(holder="a", sent={})
            with pytest.raises(BooksAway):
                await at_hand.book.leave(holder="a", sent={})
            await at_hand.bring_back()
            return (await at_hand.book.take([wanted(10, name=name)]))[0].amount

        assert await in_short(story) == 6
