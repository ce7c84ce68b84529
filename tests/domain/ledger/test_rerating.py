"""`app.domain.ledger.rerating`: the difference, and an id that two corrections cannot share."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from app.domain.ledger.rerating import Rated, re_rated
from app.domain.money import Nanodollars
from app.domain.pricing.charge import charge
from app.domain.pricing.rate_card import RateCard
from app.domain.usage import Usage
from tests.makers import CARD, CHEAP, NOON

USAGE = Usage(prompt=900, output=100, cached=128)
BOOKED = Rated(
    attempt_id="a/1",
    target="home",
    upstream_model="smollm2",
    started_at=NOON,
    usage=USAGE,
    rate_card_digest=CARD.digest,
    charge=charge(usage=USAGE, price=CARD),
    adjustments=0,
)


def test_the_adjustment_is_the_difference_to_the_nanodollar() -> None:
    adjustment = re_rated(BOOKED, card=CHEAP, reason="cheaper", by="finance")
    assert adjustment is not None
    assert BOOKED.charge + adjustment.amount == charge(usage=USAGE, price=CHEAP)
    assert (adjustment.rate_card_digest, adjustment.reason, adjustment.by) == (CHEAP.digest, "cheaper", "finance")
    assert (adjustment.prompt_added, adjustment.output_added) == (0, 0)


def test_what_costs_the_same_by_the_new_card_is_left_alone() -> None:
    assert re_rated(BOOKED, card=CARD, reason="", by="") is None
    other_name = RateCard.of(prompt=CARD.prompt, cached_prompt=CARD.cached_prompt, output=Decimal("2.0"))
    assert re_rated(BOOKED, card=other_name, reason="", by="") is None


def test_two_corrections_that_saw_the_same_books_have_one_id_and_a_later_one_another() -> None:
    one = re_rated(BOOKED, card=CHEAP, reason="", by="me")
    dearer = RateCard.of(prompt=Decimal(3), cached_prompt=Decimal(1), output=Decimal(9))
    other = re_rated(BOOKED, card=dearer, reason="", by="you")
    assert one is not None
    assert other is not None
    assert one.adjustment_id == other.adjustment_id
    corrected = replace(BOOKED, charge=Nanodollars(BOOKED.charge + one.amount), adjustments=1)
    later = re_rated(corrected, card=dearer, reason="", by="you")
    assert later is not None
    assert later.adjustment_id != one.adjustment_id
    assert corrected.charge + later.amount == charge(usage=USAGE, price=dearer)
