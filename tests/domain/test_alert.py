"""`app.domain.alert`: when a budget warns, what it says, and how a receiver knows that we said it."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.alert import AlertKind, alert_text, alert_view, alerts_due, percent, signature
from app.domain.budget import Budget, Every
from app.domain.money import Nanodollars
from tests.makers import NOON
from tests.ports.alert_book_suite import an_alert

SPENT = AlertKind.SPENT


def a_budget(amount: int = 1000, *, warn_at_ppm: tuple[int, ...] = (500_000, 800_000, 1_000_000)) -> Budget:
    return Budget(name="b", amount=Nanodollars(amount), every=Every.MONTH, warn_at_ppm=warn_at_ppm)


@pytest.mark.parametrize(
    ("spent", "passed"),
    [(499, []), (500, [500_000]), (799, [500_000]), (800, [500_000, 800_000]), (1001, [500_000, 800_000, 1_000_000])],
)
def test_a_threshold_is_passed_when_its_part_is_spent_to_the_last_nanodollar(spent: int, passed: list[int]) -> None:
    assert list(alerts_due(a_budget(), spent=spent, used_up_at=None)) == [(SPENT, part) for part in passed]


@given(amount=st.integers(1, 10**18), part=st.integers(1, 1_000_000), more=st.integers(0, 10**18))
def test_more_spent_never_takes_a_warning_back(amount: int, part: int, more: int) -> None:
    needed = -(-amount * part // 1_000_000)
    budget = a_budget(amount, warn_at_ppm=(part,))
    assert list(alerts_due(budget, spent=needed + more, used_up_at=None)) == [(SPENT, part)]
    assert list(alerts_due(budget, spent=needed - 1, used_up_at=None)) == []


def test_a_budget_that_will_not_last_warns_and_one_that_is_used_up_has_no_forecast() -> None:
    soon = NOON + timedelta(days=2)
    assert list(alerts_due(a_budget(), spent=400, used_up_at=soon)) == [(AlertKind.FORECAST, 1_000_000)]
    assert (AlertKind.FORECAST, 1_000_000) not in list(alerts_due(a_budget(), spent=1000, used_up_at=NOON))


def test_a_budget_without_thresholds_never_warns() -> None:
    assert list(alerts_due(a_budget(warn_at_ppm=()), spent=5000, used_up_at=NOON)) == []


def test_an_alert_says_its_budget_its_money_and_its_end() -> None:
    text = alert_text(an_alert())
    assert 'the budget "research" has spent $81.00 of $100.00 (81.0 %)' in text
    assert text.endswith("2026-11-30T12:00:00+00:00: 80 % is passed")
    assert alert_text(an_alert(kind=AlertKind.FORECAST)).endswith("at this pace it is used up 2026-11-26T12:00+00:00")
    assert alert_text(an_alert(kind=AlertKind.TEST)).startswith("this is a test")
    assert "(100.0 %)" in alert_text(an_alert(usd=0))


def test_what_is_posted_has_money_as_exact_text_and_moments_with_a_timezone() -> None:
    view = alert_view(replace(an_alert(), spent=Nanodollars(1), used_up_at=None))
    assert (view["usd"], view["spent_usd"], view["threshold_percent"]) == ("100", "0.000000001", "80")
    assert (view["used_up_at"], view["raised_at"]) == (None, "2026-11-23T12:00:00+00:00")


@pytest.mark.parametrize(
    ("part_ppm", "said"), [(800_000, "80"), (1_000_000, "100"), (825_000, "82.5"), (1, "0.0001"), (0, "0")]
)
def test_parts_are_said_in_percent(part_ppm: int, said: str) -> None:
    assert percent(part_ppm) == said


def test_the_signature_is_what_any_receiver_makes_of_timestamp_body_and_secret() -> None:
    expected = hmac.new(b"secret", b'1764000000.{"a":1}', hashlib.sha256).hexdigest()
    assert signature("secret", timestamp_s=1_764_000_000, body=b'{"a":1}') == expected
    others = {
        signature("other", timestamp_s=1_764_000_000, body=b'{"a":1}'),
        signature("secret", timestamp_s=1_764_000_001, body=b'{"a":1}'),
        signature("secret", timestamp_s=1_764_000_000, body=b'{"a":2}'),
    }
    assert expected not in others
    assert len(others) == 3
