from __future__ import annotations

import json

import pytest

from app.domain.pricing.rate_card import RateCard
from app.storage.rate_card_json import card_from_json, list_as_json
from tests.domain.pricing.lists import GPT_5_5
from tests.ports.price_book_suite import PLAIN


@pytest.mark.parametrize("card", [GPT_5_5, PLAIN])
def test_a_list_comes_back_as_the_same_card(card: RateCard) -> None:
    assert card_from_json(json.loads(json.dumps(list_as_json(card))), origin=card.origin) == card


def test_prices_are_written_as_plain_digits() -> None:
    assert list_as_json(PLAIN)["prices"] == {"prompt": "0.000000000001", "cached_prompt": "0", "output": "1000000"}
