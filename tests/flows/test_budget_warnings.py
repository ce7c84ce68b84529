"""`app.flows.budget_warnings` on books in memory: every crossing once, whoever looks, and again when it is raised."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from app.domain.alert import Alert, AlertKind
from app.domain.budget import Budget, Every
from app.domain.money import Nanodollars
from app.domain.routing.policy import Policy
from app.flows.budget_warnings import LOOK_EVERY_S, BudgetWarnings
from app.live.policy_slot import PolicySlot
from app.ports import BooksAway
from app.storage.receipt_json import encode
from app.system import RandomIds
from tests.fakes.alert_book import MemoryAlertBook
from tests.fakes.budget_book import MemoryBudgetBook
from tests.fakes.ledger_book import MemoryLedgerBook
from tests.fakes.spend_book import MemorySpendBook
from tests.makers import NOON, a_policy, a_receipt, an_attempt

USD = 1_000_000_000
PARTS = (500_000, 800_000, 1_000_000)
SPENT, FORECAST = AlertKind.SPENT, AlertKind.FORECAST


def a_policy_with(usd: int = 100, *, every: Every = Every.DAY, warn_at_ppm: tuple[int, ...] = PARTS) -> Policy:
    budget = Budget(name="all", amount=Nanodollars(usd * USD), every=every, warn_at_ppm=warn_at_ppm)
    return replace(a_policy(), budgets={"all": budget})


@dataclass(slots=True)
class House:
    """Books, a clock, and any number of processes that look."""

    now_s: float = NOON.timestamp()
    ledger: MemoryLedgerBook = field(default_factory=MemoryLedgerBook)
    alerts: MemoryAlertBook = field(default_factory=MemoryAlertBook)
    used: list[Mapping[str, float]] = field(default_factory=list)
    raised: list[Alert] = field(default_factory=list)
    _spent: int = 0

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_us(self) -> int:
        return round(self.now_s * 1_000_000)

    def budgets_used(self, used: Mapping[str, float]) -> None:
        self.used.append(used)

    def alert_raised(self, alert: Alert) -> None:
        self.raised.append(alert)

    def process(self) -> BudgetWarnings:
        return BudgetWarnings(
            book=MemoryBudgetBook(self.ledger),
            spend=MemorySpendBook(self.ledger),
            alerts=self.alerts,
            clock=self,
            ids=RandomIds(),
            listener=self,
        )

    async def spend(self, usd: int) -> None:
        self._spent += 1
        request_id = f"01936d5e-0000-7000-8000-{self._spent:012x}"
        one = a_receipt(
            an_attempt(attempt_id=f"{request_id}/1", charge=Nanodollars(usd * USD)),
            request_id=request_id,
            at_us=self.unix_us(),
        )
        assert await self.ledger.book([encode(one)]) == 1

    def told(self) -> list[tuple[AlertKind, int, int]]:
        return [(alert.kind, alert.threshold_ppm, alert.amount // USD) for alert in self.raised]


async def test_each_threshold_is_raised_when_it_is_passed_and_never_twice() -> None:
    house = House()
    process, policy = house.process(), a_policy_with()
    seen = []
    for usd in (49, 1, 30, 0, 19, 1, 50):
        await house.spend(usd)
        await process.look(policy)
        seen.append([part for _, part, _ in house.told()])
    assert seen == [[], [500_000], [500_000, 800_000], [500_000, 800_000], [500_000, 800_000], [*PARTS], [*PARTS]]
    assert house.used[0] == {"all": 0.49}
    assert house.used[-1] == {"all": 1.5}


async def test_four_processes_and_their_successors_raise_each_alert_once() -> None:
    house, policy = House(), a_policy_with()
    for usd in (60, 25, 20):
        await house.spend(usd)
        crew = [house.process() for _ in range(4)]
        for _ in range(2):
            await asyncio.gather(*(one.look(policy) for one in crew))
    assert sorted(part for _, part, _ in house.told()) == sorted(PARTS)
    assert len(house.alerts.rows) == 3


async def test_all_thresholds_passed_at_once_are_all_raised_and_hold_what_was_spent() -> None:
    house = House()
    await house.spend(120)
    assert await house.process().look(a_policy_with()) == 3
    assert {alert.spent for alert in house.raised} == {120 * USD}
    assert {alert.raised_at for alert in house.raised} == {NOON}
    assert {alert.budget for alert in house.raised} == {"all"}


async def test_a_raised_budget_warns_again_a_lowered_one_does_not_for_what_was_said() -> None:
    house = House()
    process = house.process()
    await house.spend(85)
    for usd in (100, 200, 100, 90, 200):
        await process.look(a_policy_with(usd))
    assert house.told() == [(SPENT, 500_000, 100), (SPENT, 800_000, 100)]
    await house.spend(40)
    await process.look(a_policy_with(200))
    assert house.told()[2:] == [(SPENT, 500_000, 200)]


async def test_a_new_period_begins_with_all_thresholds_armed() -> None:
    house, policy = House(), a_policy_with()
    process = house.process()
    await house.spend(60)
    await process.look(policy)
    house.now_s += timedelta(days=1).total_seconds()
    assert await process.look(policy) == 0
    await house.spend(60)
    assert await process.look(policy) == 1
    first, second = house.raised
    assert second.begin - first.begin == timedelta(days=1)


async def test_a_budget_that_will_not_last_its_month_is_forecast_once() -> None:
    house, policy = House(), a_policy_with(1000, every=Every.MONTH)
    process = house.process()
    await house.spend(400)
    assert await process.look(policy) == 0, "at this pace 533 of 1000 by the end"
    await house.spend(480)
    await process.look(policy)
    await process.look(policy)
    assert house.told() == [(SPENT, 500_000, 1000), (SPENT, 800_000, 1000), (FORECAST, 1_000_000, 1000)]
    forecast = house.raised[-1]
    assert forecast.used_up_at is not None
    assert NOON < forecast.used_up_at < forecast.end


async def test_a_budget_without_thresholds_shows_and_never_warns() -> None:
    house = House()
    await house.spend(500)
    assert await house.process().look(a_policy_with(warn_at_ppm=())) == 0
    assert house.used == [{"all": 5.0}]


async def test_a_policy_without_budgets_shows_none() -> None:
    house = House()
    assert await house.process().look(a_policy()) == 0
    assert house.used == [{}]


async def test_what_could_not_be_kept_is_raised_with_the_next_look() -> None:
    house, policy = House(), a_policy_with()
    process = house.process()
    await house.spend(60)
    house.alerts.away = True
    with pytest.raises(BooksAway):
        await process.look(policy)
    house.alerts.away = False
    assert await process.look(policy) == 1


class SlowSums:
    """ports.SpendBook whose sums take so long, and one of which never ends within its time."""

    def __init__(self, house: House, *, took_s: float, endless: str = "") -> None:
        self.house = house
        self.took_s = took_s
        self.endless = endless
        self.asked: list[str] = []

    async def spent(self, budget: Budget, *, begin: datetime, end: datetime) -> Nanodollars:
        self.asked.append(budget.name)
        self.house.now_s += self.took_s
        if budget.name == self.endless:
            raise BooksAway("Postgres did not answer in time")
        return await MemorySpendBook(self.house.ledger).spent(budget, begin=begin, end=end)


def a_slow_process(house: House, sums: SlowSums) -> BudgetWarnings:
    return BudgetWarnings(
        book=MemoryBudgetBook(house.ledger),
        spend=sums,
        alerts=house.alerts,
        clock=house,
        ids=RandomIds(),
        listener=house,
    )


async def test_a_sum_that_takes_long_is_made_seldom_and_believed_meanwhile() -> None:
    house = House()
    sums = SlowSums(house, took_s=2)
    process, policy = a_slow_process(house, sums), a_policy_with()
    await house.spend(60)
    for _ in range(40):
        await process.look(policy)
        house.now_s += LOOK_EVERY_S
    assert len(sums.asked) == 1
    assert house.used == [{"all": 0.6}] * 40
    house.now_s += 200
    await process.look(policy)
    assert len(sums.asked) == 2


async def test_a_sum_that_never_ends_keeps_no_other_budget_from_warning() -> None:
    house = House()
    sums = SlowSums(house, took_s=10, endless="all")
    process = a_slow_process(house, sums)
    policy = a_policy_with()
    budget = replace(policy.budgets["all"], name="other", team="research")
    policy = replace(policy, budgets={**policy.budgets, "other": budget})
    await house.spend(60)
    with pytest.raises(BooksAway):
        await process.look(policy)
    assert await process.look(policy) == 1
    assert house.raised[0].budget == "other"
    assert house.used == [{"other": 0.6}]
    house.now_s += 1000
    with pytest.raises(BooksAway):
        await process.look(policy)


class _Enough(Exception):
    """The test has seen what it wanted to see."""


@pytest.mark.parametrize(("jitter", "part"), [(0.0, 0.5), (0.5, 1.0)])
async def test_it_looks_for_ever_and_books_that_are_away_are_asked_again(jitter: float, part: float) -> None:
    house = House()
    await house.spend(60)
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        house.ledger.away = len(pauses) < 3
        if len(pauses) > 4:
            raise _Enough
        await asyncio.sleep(0)

    with pytest.raises(_Enough):
        await house.process().keep(PolicySlot(a_policy_with()), jitter=lambda: jitter, pause=pause)
    assert pauses == pytest.approx([LOOK_EVERY_S * part] * 5)
    assert house.told() == [(SPENT, 500_000, 100)]
