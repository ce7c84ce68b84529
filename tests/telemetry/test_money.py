"""`app.telemetry.money`: refusals, budgets and alerts in figures."""

from __future__ import annotations

from app.api.problems import status_of
from app.domain.errors import BadRequest, BudgetExceeded, RateLimited
from app.flows.alerts import DeliveryListener
from app.flows.budget_warnings import BudgetListener
from app.telemetry.money import MoneyMeter
from tests.makers import NOON
from tests.ports.alert_book_suite import an_alert
from tests.telemetry.test_metrics import readings, scraped, value


def no_room_in(budget: str) -> BudgetExceeded:
    return BudgetExceeded("no room", budget=budget, resets_at=NOON)


def test_refusals_are_counted_by_the_budget_or_the_limit_that_refused() -> None:
    subject = readings()
    for error in (no_room_in("a"), no_room_in("a"), no_room_in('b"\\'), RateLimited("slowly", limit="team tokens")):
        assert status_of(error) in {402, 429}
        subject.money.refused(error)
    subject.money.refused(BadRequest("no", param="x"))
    seen = scraped(subject)
    assert value(seen, "breakeven_budget_refusals_total", budget="a") == 2
    assert value(seen, "breakeven_budget_refusals_total", budget='b"\\') == 1
    assert value(seen, "breakeven_budget_refusals_total") == 3
    assert value(seen, "breakeven_limit_refusals_total", limit="team tokens") == 1
    assert value(seen, "breakeven_limit_refusals_total") == 1


def test_names_of_a_long_life_are_bounded() -> None:
    subject = MoneyMeter(most_names=3)
    for number in (*range(10), 0):
        subject.refused(no_room_in(f"b{number}"))
    lines = [line for line in subject.lines() if line.startswith("breakeven_budget_refusals_total{")]
    assert len(lines) == 4
    assert 'breakeven_budget_refusals_total{budget="other"} 7' in lines
    assert 'breakeven_budget_refusals_total{budget="b0"} 2' in lines


def test_a_budget_that_left_the_policy_leaves_the_gauge() -> None:
    subject = readings()
    subject.money.budgets_used({"a": 0.5, "b": 1.25})
    subject.money.budgets_used({"b": 1.5})
    seen = scraped(subject)
    assert {key for key in seen if key[0] == "breakeven_budget_used_ratio"} == {
        ("breakeven_budget_used_ratio", frozenset({("budget", "b")}))
    }
    assert value(seen, "breakeven_budget_used_ratio", budget="b") == 1.5


def test_alerts_are_counted_by_what_became_of_them_and_begin_at_nought() -> None:
    subject = readings()
    listeners: tuple[BudgetListener, DeliveryListener] = (subject.money, subject.money)
    before = scraped(subject)
    for result in ("raised", "delivered", "failed", "dead"):
        assert ("breakeven_alerts_total", frozenset({("result", result)})) in before, "an alarm needs the zero"
    alert = an_alert()
    listeners[0].alert_raised(alert)
    listeners[1].alert_failed(alert, error="answered 500", is_last=False)
    listeners[1].alert_failed(alert, error="answered 500", is_last=True)
    listeners[1].alert_delivered(alert)
    seen = scraped(subject)
    assert {
        result: value(seen, "breakeven_alerts_total", result=result)
        for result in ("raised", "delivered", "failed", "dead")
    } == {"raised": 1, "delivered": 1, "failed": 2, "dead": 1}
