"""`app.domain.replay.seller`."""

from __future__ import annotations

from math import inf

import pytest

from app.domain.replay.seller import PacedSeller
from app.domain.replay.speed import Pace
from tests.domain.replay.recording import answered


def test_a_seller_is_as_quick_for_many_as_for_one() -> None:
    seller = PacedSeller(Pace(ttft_s=0.5, tpot_s=0.02))
    assert seller.next_s == inf
    asked = [(0.0, 10_000, 100), (0.1, 1, 2), (0.1, 1, 1), *[(0.2, 1, 51)] * 100]
    for request, (at_s, _, output) in zip(answered(seller, asked), asked, strict=True):
        assert request.times == (pytest.approx(at_s + 0.5), pytest.approx(at_s + 0.5 + 0.02 * (output - 1)))


def test_a_seller_takes_whatever_may_be_sent_and_tells_nothing_of_its_load() -> None:
    seller = PacedSeller(Pace(ttft_s=0.5, tpot_s=0.02))
    assert seller.holds(prompt_tokens=10**9, output_tokens=10**9)
    assert seller.numbers(at_s=1.0) == {}
