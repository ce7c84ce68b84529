"""`app.flows.repeats`: one answer for a request that comes twice, whatever becomes of the books meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from app.domain.errors import LedgerUnavailable, RepeatReason, RepeatRefused
from app.domain.repeat import ANSWER_MOST_BYTES, Repeat, repeat_of
from app.flows.repeats import (
    AGAIN_S,
    LEASE_BEYOND_S,
    RELEASED_AGAIN_S,
    SWEEP_EVERY_S,
    SWEPT_MOST,
    Claimed,
    Repeats,
    Replay,
)
from app.ports.repeats import RepeatClaim
from tests.fakes.repeat_book import MemoryRepeatBook


class Enough(Exception):
    """The test has seen what it wanted to see."""


class World:
    """A book, its clock, and two processes."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.book = MemoryRepeatBook(now_s=lambda: self.now_s)
        self.here = Repeats(self.book, holder="here", answer_within_s=0.2)
        self.there = Repeats(self.book, holder="there", answer_within_s=0.2)
        self.notices: list[str] = []

    async def pass_by(self, repeats: Repeats, rounds: int) -> None:
        """What runs beside the requests, for so many rounds."""
        left = [rounds]

        async def pause(seconds: float) -> None:
            self.now_s += seconds
            if not left[0]:
                raise Enough
            left[0] -= 1

        with pytest.raises(Enough):
            await repeats.keep(jitter=lambda: 0.0, notice=self.notices.append, pause=pause)


@pytest.fixture
def world() -> World:
    return World()


def a_repeat(body: bytes = b"{}", *, said: bytes = b"once") -> Repeat:
    return repeat_of([said], api_key="bk_mine", path="/", body=body)


async def claimed(repeats: Repeats, number: int = 1, repeat: Repeat | None = None) -> Claimed:
    found = await repeats.claim(repeat or a_repeat(), key_id="abcdefgh", request_id=f"request-{number}", total_s=60)
    assert isinstance(found, Claimed)
    return found


async def refused(repeats: Repeats, repeat: Repeat | None = None) -> RepeatRefused:
    with pytest.raises(RepeatRefused) as refusal:
        await repeats.claim(repeat or a_repeat(), key_id="abcdefgh", request_id="again", total_s=60)
    return refusal.value


async def test_the_first_is_answered_and_whoever_comes_meanwhile_is_told_which_it_is(world: World) -> None:
    assert (await claimed(world.here)).interrupted is None
    refusal = await refused(world.there)
    assert (refusal.reason, refusal.original) == (RepeatReason.IN_PROGRESS, "request-1")
    assert "request-1" in str(refusal)


async def test_what_was_answered_is_given_again_and_lies_in_the_books_unreadable(world: World) -> None:
    await world.here.keep_answer(await claimed(world.here), b"the answer")
    for repeats in (world.here, world.there):
        found = await repeats.claim(a_repeat(), key_id="abcdefgh", request_id="again", total_s=60)
        assert found == Replay(original="request-1", answer=b"the answer")
    repeat = a_repeat()
    claim = RepeatClaim(key_id="abcdefgh", name=repeat.name, fingerprint=repeat.fingerprint, request_id="x")
    lies = await world.book.claim(claim, holder="x", for_s=1)
    assert b"answer" not in (getattr(lies, "answer", b"") or b"")


async def test_another_body_is_refused_while_the_first_runs_and_after_it(world: World) -> None:
    first = await claimed(world.here)
    for answer in (None, b"the answer"):
        refusal = await refused(world.there, a_repeat(b"other"))
        assert (refusal.reason, refusal.original) == (RepeatReason.ANOTHER_REQUEST, "request-1")
        await world.here.keep_answer(first, answer)


@pytest.mark.parametrize("answer", [None, bytes(ANSWER_MOST_BYTES + 1)])
async def test_an_answer_that_was_not_kept_is_not_made_again(world: World, answer: bytes | None) -> None:
    await world.here.keep_answer(await claimed(world.here), answer)
    refusal = await refused(world.there)
    assert (refusal.reason, refusal.original) == (RepeatReason.NOT_KEPT, "request-1")


async def test_the_largest_answer_is_kept(world: World) -> None:
    await world.here.keep_answer(await claimed(world.here), bytes(ANSWER_MOST_BYTES))
    found = await world.there.claim(a_repeat(), key_id="abcdefgh", request_id="again", total_s=60)
    assert isinstance(found, Replay)


async def test_an_answer_that_does_not_open_was_not_kept(world: World) -> None:
    await world.here.keep_answer(await claimed(world.here), b"the answer")
    (row,) = world.book._rows.values()
    row.answer = bytes(64)
    assert (await refused(world.there)).reason is RepeatReason.NOT_KEPT


async def test_what_was_released_may_come_again(world: World) -> None:
    await world.here.release(await claimed(world.here))
    assert (await claimed(world.there, 2)).interrupted is None


async def test_whoever_takes_over_from_a_claim_that_ended_is_told_of_it(world: World) -> None:
    await claimed(world.here)
    world.now_s = 60 + LEASE_BEYOND_S - 1
    assert (await refused(world.there)).reason is RepeatReason.IN_PROGRESS
    world.now_s += 2
    assert (await claimed(world.there, 2)).interrupted == "request-1"


async def test_without_the_books_nothing_is_done_and_what_may_have_been_claimed_is_let_go(world: World) -> None:
    world.book.mute = True
    with pytest.raises(LedgerUnavailable, match="try again"):
        await claimed(world.here)
    assert world.here.owed == 1
    await world.pass_by(world.here, 3)
    assert world.here.owed == 1
    world.book.mute = False
    await world.pass_by(world.here, int(sum(RELEASED_AGAIN_S) / AGAIN_S) + 1)
    assert world.here.owed == 0


async def test_a_claim_that_never_left_is_not_owed_however_long_the_books_are_away(world: World) -> None:
    world.book.away = True
    for number in range(50):
        with pytest.raises(LedgerUnavailable, match="try again"):
            await claimed(world.here, number)
    assert world.here.owed == 0


@pytest.mark.parametrize("later_s", RELEASED_AGAIN_S)
async def test_a_claim_that_comes_after_its_release_is_released_all_the_same(world: World, later_s: float) -> None:
    world.book.mute = True
    with pytest.raises(LedgerUnavailable):
        await claimed(world.here)
    world.book.mute = False
    if later_s == max(RELEASED_AGAIN_S):
        await world.pass_by(world.here, int(min(RELEASED_AGAIN_S) / AGAIN_S) + 1)
    else:
        await world.pass_by(world.here, 1)
    ((claim, holder, for_s),) = world.book.late
    await world.book.claim(claim, holder=holder, for_s=for_s)
    assert (await refused(world.there)).reason is RepeatReason.IN_PROGRESS
    await world.pass_by(world.here, int(later_s / AGAIN_S) + 1)
    assert (await claimed(world.there, 2)).interrupted is None
    assert world.here.owed == 0


async def test_with_too_much_to_tell_nothing_is_claimed_until_it_is_told(world: World) -> None:
    here = Repeats(world.book, holder="here", answer_within_s=0.2, owed_most=2)
    under_way = [await claimed(here, number, a_repeat(said=b"%d" % number)) for number in range(3)]
    world.book.away = True
    for each in under_way:
        await here.keep_answer(each, b"an answer")
    assert here.owed == 3, "what was under way is not forgotten"
    world.book.away, told = False, world.book.told
    with pytest.raises(LedgerUnavailable, match="try again"):
        await claimed(here, 4)
    assert world.book.told == told, "refused up front"
    await world.pass_by(here, 1)
    assert (here.owed, here.owed_bytes) == (0, 0)
    assert (await claimed(here, 5)).interrupted is None
    assert (await refused(world.there, a_repeat(said=b"2"))).reason is RepeatReason.NOT_KEPT, "one over the count"
    found = await world.there.claim(a_repeat(said=b"1"), key_id="abcdefgh", request_id="again", total_s=60)
    assert isinstance(found, Replay)


async def test_of_answers_that_wait_to_be_told_some_are_held_and_the_others_are_told_without(world: World) -> None:
    here = Repeats(world.book, holder="here", answer_within_s=0.2, owed_most_bytes=2_500)
    under_way = [await claimed(here, number, a_repeat(said=b"%d" % number)) for number in range(5)]
    world.book.away = True
    for each in under_way:
        await here.keep_answer(each, bytes(1_000))
    await world.pass_by(here, 3)
    assert (here.owed, 2_000 < here.owed_bytes <= 2_500) == (5, True)
    world.book.away = False
    await world.pass_by(here, 1)
    assert (here.owed, here.owed_bytes) == (0, 0)
    assert sorted(row.state for row in world.book._rows.values()) == ["kept"] * 2 + ["told"] * 3


async def test_what_became_of_a_request_is_told_once(world: World) -> None:
    first = await claimed(world.here)
    world.book.away = True
    await world.here.keep_answer(first, b"the answer")
    await world.here.keep_answer(first, b"another text under the same seal")
    await world.here.release(first)
    world.book.away = False
    await world.pass_by(world.here, 1)
    found = await world.there.claim(a_repeat(), key_id="abcdefgh", request_id="again", total_s=60)
    assert found == Replay(original="request-1", answer=b"the answer")
    told = world.book.told
    await world.here.keep_answer(first, b"another text under the same seal")
    assert world.book.told == told


async def test_a_claim_whose_answer_was_lost_is_let_go(world: World) -> None:
    class Slow(MemoryRepeatBook):
        async def claim(self, claim, **how):  # type: ignore[no-untyped-def]
            await super().claim(claim, **how)
            await asyncio.sleep(60)

    slow = Slow(now_s=lambda: world.now_s)
    here = Repeats(slow, holder="here", answer_within_s=0.05)
    with pytest.raises(LedgerUnavailable):
        await claimed(here)
    await world.pass_by(here, 1)
    assert not slow._rows


async def test_an_answer_that_the_books_did_not_take_is_told_again_and_never_made_again(world: World) -> None:
    first = await claimed(world.here)
    world.book.away = True
    await world.here.keep_answer(first, b"the answer")
    world.book.away = False
    assert (await refused(world.there)).reason is RepeatReason.IN_PROGRESS
    await world.pass_by(world.here, 1)
    found = await world.there.claim(a_repeat(), key_id="abcdefgh", request_id="again", total_s=60)
    assert found == Replay(original="request-1", answer=b"the answer")


async def test_the_last_words_are_said_at_a_stop(world: World) -> None:
    first = await claimed(world.here)
    world.book.away = True
    await world.here.keep_answer(first, b"the answer")
    await world.here.end()
    assert world.here.owed == 1
    world.book.away = False
    await world.here.end()
    assert world.here.owed == 0


async def test_what_is_over_is_swept_and_books_that_are_away_are_swept_later(world: World) -> None:
    await world.here.keep_answer(await claimed(world.here), None)
    world.now_s += 25 * 3600
    world.book.away = True
    await world.pass_by(world.here, 1)
    world.book.away = False
    await world.pass_by(world.here, int(SWEEP_EVERY_S / AGAIN_S))
    assert not world.book._rows
    (notice,) = world.notices
    assert "away" in notice


async def test_a_sweep_takes_a_little_at_a_time_and_ends_when_nothing_is_left(world: World) -> None:
    more = 2 * SWEPT_MOST + 1
    for number in range(more):
        await world.here.keep_answer(await claimed(world.here, number, a_repeat(said=b"%d" % number)), None)
    world.now_s += 25 * 3600
    told = world.book.told
    await world.pass_by(world.here, 1)
    assert not world.book._rows
    assert world.book.told - told == 3
