"""What every repeat book does, the one in Postgres and the one in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from app.ports import BooksAway
from app.ports.repeats import Earlier, Mine, RepeatBook, RepeatClaim

HOLDER, OTHER = "this-home", "other-home"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatBookAtHand:
    """An empty book, what makes it go away and come back, time that passes in it, and receipts that it knows."""

    book: RepeatBook
    take_away: Callable[[], Awaitable[None]]
    bring_back: Callable[[], Awaitable[None]]
    pass_s: Callable[[float], Awaitable[None]]
    #: This request has a receipt, `complete` or `interrupted`, with an attempt.
    book_receipt: Callable[[str, str], Awaitable[None]]


def a_claim(number: int = 1, *, name: bytes = b"n" * 16, key_id: str = "abcdefgh") -> RepeatClaim:
    return RepeatClaim(
        key_id=key_id, name=name, fingerprint=b"f" * 16, request_id=f"019ab000-0000-7000-8000-{number:012x}"
    )


class RepeatBookSuite:
    """Subclasses give the fixture `at_hand`."""

    async def test_of_many_at_once_one_gets_it_and_the_others_hear_of_it(self, at_hand: RepeatBookAtHand) -> None:
        claims = [a_claim(number) for number in range(8)]
        found = await asyncio.gather(*(at_hand.book.claim(each, holder=HOLDER, for_s=60) for each in claims))
        (mine,) = [number for number, each in enumerate(found) if isinstance(each, Mine)]
        assert found[mine] == Mine()
        running = Earlier(request_id=claims[mine].request_id, fingerprint=b"f" * 16, is_running=True)
        assert [each for each in found if isinstance(each, Earlier)] == [running] * 7

    async def test_another_api_key_or_name_is_another(self, at_hand: RepeatBookAtHand) -> None:
        for number, claim in enumerate((a_claim(), a_claim(key_id="zzzzzzzz"), a_claim(name=b"m" * 16))):
            mine = replace(claim, request_id=a_claim(number).request_id)
            assert await at_hand.book.claim(mine, holder=HOLDER, for_s=60) == Mine()

    @pytest.mark.parametrize("answer", [b"sealed", None])
    async def test_what_was_answered_is_remembered_for_a_day(
        self, at_hand: RepeatBookAtHand, answer: bytes | None
    ) -> None:
        await at_hand.book.claim(a_claim(1), holder=HOLDER, for_s=60)
        assert await at_hand.book.finish(a_claim(1), answer=answer)
        assert not await at_hand.book.finish(a_claim(1), answer=b"another"), "once"
        assert not await at_hand.book.release(a_claim(1)), "it is no claim any more"
        earlier = Earlier(request_id=a_claim(1).request_id, fingerprint=b"f" * 16, is_running=False, answer=answer)
        await at_hand.pass_s(23.9 * 3600)
        assert await at_hand.book.claim(a_claim(2), holder=OTHER, for_s=60) == earlier
        assert await at_hand.book.sweep(most=200) == 0
        await at_hand.pass_s(0.2 * 3600)
        assert await at_hand.book.claim(a_claim(2), holder=OTHER, for_s=60) == Mine()

    async def test_what_was_released_never_came(self, at_hand: RepeatBookAtHand) -> None:
        await at_hand.book.claim(a_claim(1), holder=HOLDER, for_s=60)
        assert not await at_hand.book.release(a_claim(2)), "another request's claim"
        assert await at_hand.book.release(a_claim(1))
        assert not await at_hand.book.finish(a_claim(1), answer=b"late")
        assert await at_hand.book.claim(a_claim(2), holder=OTHER, for_s=60) == Mine()

    async def test_a_claim_ends_by_the_books_own_clock_and_the_next_is_told(self, at_hand: RepeatBookAtHand) -> None:
        await at_hand.book.claim(a_claim(1), holder=HOLDER, for_s=60)
        await at_hand.pass_s(30)
        assert isinstance(await at_hand.book.claim(a_claim(2), holder=OTHER, for_s=60), Earlier)
        await at_hand.pass_s(31)
        assert await at_hand.book.claim(a_claim(2), holder=OTHER, for_s=60) == Mine(interrupted=a_claim(1).request_id)
        assert not await at_hand.book.finish(a_claim(1), answer=b"too late")

    async def test_what_a_dead_process_had_answered_is_not_asked_again_and_the_rest_may_be(
        self, at_hand: RepeatBookAtHand
    ) -> None:
        complete, cut, unknown, others = (a_claim(number, name=bytes([number]) * 16) for number in (1, 2, 3, 4))
        for claim in (complete, cut, unknown):
            await at_hand.book.claim(claim, holder=HOLDER, for_s=600)
        await at_hand.book.claim(others, holder=OTHER, for_s=600)
        await at_hand.book_receipt(complete.request_id, "complete")
        await at_hand.book_receipt(cut.request_id, "interrupted")
        for _ in range(2):
            await at_hand.book.close(HOLDER)
        again = {
            claim.request_id: await at_hand.book.claim(
                replace(claim, request_id=a_claim(number).request_id), holder=OTHER, for_s=60
            )
            for number, claim in enumerate((complete, cut, unknown, others), 10)
        }
        assert again[complete.request_id] == Earlier(
            request_id=complete.request_id, fingerprint=b"f" * 16, is_running=False
        )
        assert again[cut.request_id] == Mine(interrupted=cut.request_id)
        assert again[unknown.request_id] == Mine(interrupted=unknown.request_id)
        assert again[others.request_id] == Earlier(request_id=others.request_id, fingerprint=b"f" * 16, is_running=True)

    async def test_what_is_over_a_day_old_is_forgotten_but_not_what_runs(self, at_hand: RepeatBookAtHand) -> None:
        for number in (1, 2, 3):
            await at_hand.book.claim(a_claim(number, name=bytes([number]) * 16), holder=HOLDER, for_s=90_000)
        await at_hand.book.finish(a_claim(1, name=bytes([1]) * 16), answer=b"sealed")
        await at_hand.book.finish(a_claim(2, name=bytes([2]) * 16), answer=None)
        await at_hand.pass_s(25 * 3600 - 600)
        assert await at_hand.book.sweep(most=200) == 2
        assert await at_hand.book.sweep(most=200) == 0
        await at_hand.pass_s(1200)
        assert await at_hand.book.sweep(most=200) == 1

    async def test_a_sweep_takes_no_more_than_it_is_told(self, at_hand: RepeatBookAtHand) -> None:
        claims = [a_claim(number, name=bytes([number]) * 16) for number in range(5)]
        for claim in claims:
            await at_hand.book.claim(claim, holder=HOLDER, for_s=60)
            await at_hand.book.finish(claim, answer=b"sealed")
            await at_hand.pass_s(100)
        await at_hand.pass_s(24 * 3600 - 250)  # the last two are remembered
        assert [await at_hand.book.sweep(most=2) for _ in range(3)] == [2, 1, 0]
        for claim in claims[3:]:
            assert isinstance(await at_hand.book.claim(claim, holder=OTHER, for_s=60), Earlier)

    async def test_a_claim_says_when_it_goes_out_and_only_then(self, at_hand: RepeatBookAtHand) -> None:
        sent: list[int] = []
        await at_hand.book.claim(a_claim(), holder=HOLDER, for_s=60, on_sent=lambda: sent.append(1))
        assert sent == [1]
        await at_hand.take_away()
        with pytest.raises(BooksAway):  # whoever was connected does not know whether it went out
            await at_hand.book.claim(a_claim(2), holder=HOLDER, for_s=60)
        with pytest.raises(BooksAway):
            await at_hand.book.claim(a_claim(3), holder=HOLDER, for_s=60, on_sent=lambda: sent.append(3))
        assert sent == [1]
        await at_hand.bring_back()

    async def test_books_that_are_away_say_so(self, at_hand: RepeatBookAtHand) -> None:
        await at_hand.book.claim(a_claim(), holder=HOLDER, for_s=60)
        await at_hand.take_away()
        for call in (
            lambda: at_hand.book.claim(a_claim(2), holder=HOLDER, for_s=60),
            lambda: at_hand.book.finish(a_claim(), answer=None),
            lambda: at_hand.book.release(a_claim()),
            lambda: at_hand.book.close(HOLDER),
            lambda: at_hand.book.sweep(most=200),
        ):
            with pytest.raises(BooksAway):
                await call()
        await at_hand.bring_back()
        assert await at_hand.book.finish(a_claim(), answer=b"sealed")
