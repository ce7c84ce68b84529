"""`app.domain.ledger.adjustment`."""

from __future__ import annotations

from app.domain.ledger.adjustment import Adjustment, tokens_added
from app.domain.money import Nanodollars
from app.domain.usage import Usage


def test_what_is_added_turns_one_usage_into_the_other() -> None:
    before, after = Usage(prompt=10, output=5, cached=2), Usage(prompt=12, output=3, cached=2, reasoning=1)
    added = tokens_added(before=before, after=after)
    assert added == {"prompt_added": 2, "cached_added": 0, "output_added": -2, "reasoning_added": 1}
    one = Adjustment(
        adjustment_id="a", attempt_id="b", reason="the seller says so", by="me", amount=Nanodollars(-3), **added
    )
    assert (one.output_added, one.rate_card_digest) == (-2, "")
