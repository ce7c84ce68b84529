"""What every book of curves does, the one in Postgres and the one in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from app.domain.capacity.learned import HALF_LIFE_S, Identity, LearnedCurve
from app.domain.capacity.service_curve import IDLE, CurveFit
from app.ports import BooksAway
from app.ports.curves import CurveBook

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveBookAtHand:
    """An empty book; what makes time pass for it, and what makes it go away and come back."""

    book: CurveBook
    grow_older: Callable[[float], Awaitable[None]]
    take_away: Callable[[], Awaitable[None]]
    bring_back: Callable[[], Awaitable[None]]


def learned(target: str = "home", *, answers: int = 10, version: str = "0.11", **named: str) -> LearnedCurve:
    fit = CurveFit()
    for number in range(answers):
        fit = fit.saw_step(sequences=1 + number % 3, step_s=0.01 / 3 * (1 + number % 3))
        fit = fit.saw_output(tokens=7 + number)
        fit = fit.saw_first_token(load=IDLE, computed_tokens=70 * (1 + number % 7), ttft_s=0.1 + number / 97)
    of = Identity(**{"target": target, "url": "http://10.0.0.1/v1", "model": "smollm2", "kind": "vllm", **named})
    return LearnedCurve(of=of, fit=fit, engine_version=version, ttft_ms=123.456)


class CurveBookSuite:
    """Subclasses give the fixture `at_hand`."""

    async def test_a_curve_comes_back_to_the_last_bit(self, at_hand: CurveBookAtHand) -> None:
        silent = replace(learned("b", version=""), ttft_ms=None)
        await at_hand.book.keep([silent, learned("a")])
        kept = await at_hand.book.kept()
        assert [each.curve for each in kept] == [learned("a"), silent]
        assert all(0 <= each.age_s < 60 for each in kept)

    async def test_nothing_kept_is_nothing_known(self, at_hand: CurveBookAtHand) -> None:
        await at_hand.book.keep([])
        assert await at_hand.book.kept() == ()

    async def test_of_two_processes_the_one_with_more_answers_is_kept(self, at_hand: CurveBookAtHand) -> None:
        for answers, kept in ((10, 10), (4, 10), (12, 12), (12, 12), (3, 12)):
            await at_hand.book.keep([learned(answers=answers)])
            assert [each.curve for each in await at_hand.book.kept()] == [learned(answers=kept)]

    async def test_what_is_old_counts_for_less_and_gives_way(self, at_hand: CurveBookAtHand) -> None:
        await at_hand.book.keep([learned(answers=40)])
        await at_hand.grow_older(HALF_LIFE_S)
        (kept,) = await at_hand.book.kept()
        assert kept.age_s == pytest.approx(HALF_LIFE_S, abs=60)
        await at_hand.book.keep([learned(answers=10)])
        assert [each.curve for each in await at_hand.book.kept()] == [learned(answers=40)]
        await at_hand.book.keep([learned(answers=30)])
        (kept,) = await at_hand.book.kept()
        assert kept.curve == learned(answers=30)
        assert kept.age_s < 60

    @pytest.mark.parametrize("other", [{"url": "http://10.0.0.2/v1"}, {"model": "llama"}, {"kind": "sglang"}])
    async def test_another_engine_or_model_under_that_name_takes_its_place(
        self, at_hand: CurveBookAtHand, other: dict[str, str]
    ) -> None:
        await at_hand.book.keep([learned(answers=50)])
        await at_hand.book.keep([learned(answers=2, version="", **other)])
        assert [each.curve for each in await at_hand.book.kept()] == [learned(answers=2, version="", **other)]

    async def test_so_does_another_version_but_not_one_that_is_not_known(self, at_hand: CurveBookAtHand) -> None:
        await at_hand.book.keep([learned(answers=50)])
        await at_hand.book.keep([learned(answers=2, version="")])
        assert [each.curve for each in await at_hand.book.kept()] == [learned(answers=50)]
        await at_hand.book.keep([learned(answers=60, version="")])
        assert [each.curve for each in await at_hand.book.kept()] == [learned(answers=60)]
        await at_hand.book.keep([learned(answers=2, version="0.12")])
        assert [each.curve for each in await at_hand.book.kept()] == [learned(answers=2, version="0.12")]

    async def test_a_weight_that_no_answers_can_have_keeps_nobody_out(self, at_hand: CurveBookAtHand) -> None:
        absurd = learned(answers=50)
        prefill = replace(absurd.fit.prefill, weight=1e300)
        await at_hand.book.keep([replace(absurd, fit=replace(absurd.fit, prefill=prefill))])
        await at_hand.book.keep([learned(answers=2)])
        assert [each.curve for each in await at_hand.book.kept()] == [learned(answers=2)]

    async def test_a_target_that_nobody_sends_to_any_more_is_forgotten(self, at_hand: CurveBookAtHand) -> None:
        await at_hand.book.keep([learned("gone")])
        await at_hand.grow_older(29 * DAY_S)
        await at_hand.book.keep([learned("here")])
        assert [each.curve.of.target for each in await at_hand.book.kept()] == ["gone", "here"]
        await at_hand.grow_older(2 * DAY_S)
        await at_hand.book.keep([])
        assert [each.curve.of.target for each in await at_hand.book.kept()] == ["here"]

    async def test_what_is_older_than_any_power_of_a_half_is_replaced(self, at_hand: CurveBookAtHand) -> None:
        await at_hand.book.keep([learned(answers=50)])
        await at_hand.grow_older(5000 * DAY_S)
        assert len(await at_hand.book.kept()) == 1
        await at_hand.book.keep([learned(answers=1)])
        assert [each.curve for each in await at_hand.book.kept()] == [learned(answers=1)]

    async def test_a_book_that_is_away_says_so_and_serves_again_when_it_is_back(self, at_hand: CurveBookAtHand) -> None:
        await at_hand.book.keep([learned()])
        await at_hand.take_away()
        with pytest.raises(BooksAway):
            await at_hand.book.kept()
        with pytest.raises(BooksAway):
            await at_hand.book.keep([learned(answers=20)])
        await at_hand.bring_back()
        assert [each.curve for each in await at_hand.book.kept()] == [learned()]
