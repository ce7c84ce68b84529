from __future__ import annotations

from app.live.retry_budget import FLOOR_PER_S, SHARE_PERCENT, WINDOW_S, RetryBudget

FLOOR = round(FLOOR_PER_S * WINDOW_S)


def _taken(budget: RetryBudget, *, at_s: float, tries: int = 10_000) -> int:
    return sum(budget.take(at_s=at_s) for _ in range(tries))


def test_who_asks_little_has_the_floor() -> None:
    assert _taken(RetryBudget(), at_s=0) == FLOOR


def test_who_asks_much_has_a_share_of_it_besides() -> None:
    budget = RetryBudget()
    for _ in range(2_000):
        budget.asked(at_s=0)
    assert _taken(budget, at_s=0) == FLOOR + 2_000 * SHARE_PERCENT // 100


def test_what_was_not_made_is_counted_and_comes_back_with_time() -> None:
    budget = RetryBudget()
    assert _taken(budget, at_s=0, tries=FLOOR + 7) == FLOOR
    assert budget.refused == 7
    assert not budget.take(at_s=WINDOW_S)
    assert _taken(budget, at_s=WINDOW_S + 1.0) == FLOOR


def test_over_a_minute_of_outage_no_more_than_a_fifth_is_added_but_for_the_floor() -> None:
    budget = RetryBudget()
    attempts = requests = 0
    for tick in range(60 * 200):  # 200 requests a second, each of which wants two more attempts
        at_s = tick / 200
        budget.asked(at_s=at_s)
        requests += 1
        attempts += 1 + budget.take(at_s=at_s) + budget.take(at_s=at_s)
    assert attempts <= requests * (1 + SHARE_PERCENT / 100) + FLOOR_PER_S * 60 + FLOOR


def test_one_that_was_taken_and_not_made_is_there_for_another() -> None:
    budget = RetryBudget()
    assert _taken(budget, at_s=0) == FLOOR
    budget.put_back(at_s=0)
    assert _taken(budget, at_s=0) == 1
