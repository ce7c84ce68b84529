from __future__ import annotations

from app.live.recent import RecentReceipts
from tests.makers import a_receipt


def test_the_oldest_receipt_is_forgotten_first() -> None:
    recent = RecentReceipts(most=2)
    for name in ("one", "two", "three"):
        recent.remember(a_receipt(request_id=name))
    assert recent.find("one", key_id="abcdefgh") is None
    assert recent.find("three", key_id="abcdefgh") is not None


def test_a_receipt_is_not_found_for_another_key() -> None:
    recent = RecentReceipts()
    recent.remember(a_receipt(request_id="one"))
    assert recent.find("one", key_id="stranger") is None
