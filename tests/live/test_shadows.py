from __future__ import annotations

import asyncio

from app.domain.money import Nanodollars
from app.live.shadows import DAY_S, STEP_S, Dropped, Shadows


def _offer(shadows: Shadows[str], copy: str = "copy", *, cap: int | None = None, at_s: float = 0) -> bool:
    most = None if cap is None else Nanodollars(cap)
    return shadows.offer(copy, rule="chat/all", most_per_day=most, at_s=at_s)


async def test_copies_are_given_in_their_order() -> None:
    shadows: Shadows[str] = Shadows()
    assert _offer(shadows, "first")
    assert _offer(shadows, "second")
    assert [await shadows.next(), await shadows.next()] == ["first", "second"]


async def test_a_copy_too_many_is_dropped_and_counted_until_another_has_ended() -> None:
    shadows: Shadows[str] = Shadows(most_at_once=2)
    assert [_offer(shadows) for _ in range(3)] == [True, True, False]
    await shadows.next()
    assert not _offer(shadows)
    shadows.ended(rule="chat/all", charge=Nanodollars(0), at_s=0)
    assert _offer(shadows)
    assert shadows.dropped()[Dropped.CROWDED] == 2


def test_a_rule_that_has_spent_its_cap_gets_no_copies_for_a_day_and_a_step() -> None:
    shadows: Shadows[str] = Shadows()
    assert _offer(shadows, cap=10)
    shadows.ended(rule="chat/all", charge=Nanodollars(10), at_s=100)
    assert not _offer(shadows, cap=10, at_s=100 + DAY_S)
    assert shadows.dropped() == {"crowded": 0, "capped": 1, "unfit": 0, "no_room": 0}
    assert _offer(shadows, cap=11, at_s=100)
    assert _offer(shadows, cap=10, at_s=100 + DAY_S + STEP_S)


def test_what_one_rule_spends_is_not_the_others() -> None:
    shadows: Shadows[str] = Shadows()
    shadows.offer("copy", rule="chat/other", most_per_day=None, at_s=0)
    shadows.ended(rule="chat/other", charge=Nanodollars(10), at_s=0)
    assert shadows.spent("chat/other", at_s=0) == 10
    assert _offer(shadows, cap=10)


async def test_whoever_asks_for_the_next_waits_until_there_is_one() -> None:
    shadows: Shadows[str] = Shadows()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(shadows.next())
        await asyncio.sleep(0)
        assert not waiting.done()
        _offer(shadows, "late")
    assert waiting.result() == "late"
