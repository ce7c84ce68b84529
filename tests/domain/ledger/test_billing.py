"""`app.domain.ledger.billing`: what a seller says, and which model it means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.domain.ledger.billing import BilledTokens, our_name
from app.domain.money import ZERO
from app.domain.usage import NOTHING, Usage, UsageSource
from tests.billing import USAGE, our_call

OURS = ("gpt-5-mini", "gpt-5", "claude-haiku-20250929", "gpt-5-2026-01-01")


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        ("gpt-5-mini", "gpt-5-mini"),
        ("gpt-5-mini-2025-08-07", "gpt-5-mini"),
        ("openai/GPT-5-mini", "gpt-5-mini"),
        ("claude-haiku", "claude-haiku-20250929"),
        ("gpt-5", "gpt-5"),
        ("gpt-5-2025-08-07", "gpt-5-2025-08-07"),  # fits two of ours
        ("gpt-5-nano", "gpt-5-nano"),
        ("web search", "web search"),
    ],
)
def test_a_model_has_our_name_when_exactly_one_of_ours_fits(theirs: str, expected: str) -> None:
    assert our_name(theirs, ours=OURS) == expected


def test_what_the_seller_does_not_say_stays_as_we_have_it_and_no_part_outgrows_its_whole() -> None:
    assert BilledTokens(output=7).over(USAGE) == replace(USAGE, output=7)
    assert BilledTokens(prompt=100).over(USAGE) == Usage(prompt=100, output=100, cached=100)
    assert BilledTokens().over(USAGE) == USAGE


def test_two_lines_of_one_request_add_up_and_what_neither_says_is_not_known() -> None:
    both = BilledTokens(prompt=5, cached=1) + BilledTokens(prompt=2, output=3)
    assert both == BilledTokens(prompt=7, cached=1, output=3)
    assert both.are_known
    assert not BilledTokens(prompt=5).are_known


def test_a_call_without_tokens_and_money_is_nothing_that_a_seller_counts() -> None:
    nothing = our_call(usage=NOTHING, usage_source=UsageSource.NOTHING_SENT)
    assert not nothing.is_something
    assert replace(nothing, counted=((nothing.began_at.date(), ZERO),)).is_something is False
    assert our_call().is_something
    assert nothing.is_estimated
