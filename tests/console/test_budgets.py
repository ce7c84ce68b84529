"""`app.console.budgets` on a real socket."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.domain.budget import Budget, Every, Mode
from app.domain.money import Nanodollars
from tests.console.served import House, console
from tests.makers import a_policy, a_receipt
from tests.ports.alert_book_suite import an_alert

BUDGET = Budget(
    name="research", amount=Nanodollars(1_000_000), every=Every.MONTH, team="research", mode=Mode.WATCH,
    warn_at_ppm=(500_000, 825_000),
)  # fmt: skip


async def test_budgets_of_the_policy_in_force_are_shown_as_they_stand() -> None:
    house = House(policy=replace(a_policy(), budgets={"research": BUDGET}))
    await house.book(a_receipt())
    async with console(house) as it:
        answer = await it.get("/api/budgets")
    (shown,) = answer.json["budgets"]
    assert (shown["name"], shown["of"], shown["every"], shown["mode"]) == (
        "research",
        "team research",
        "month",
        "watch",
    )
    assert (shown["usd"], shown["spent_usd"], shown["left_usd"]) == ("0.001", "0.0003962", "0.0006038")
    assert (shown["used_percent"], shown["warn_at_percent"]) == ("39.6", ["50", "82.5"])
    assert shown["end"] == "2026-12-01T00:00:00+00:00"


async def test_a_policy_without_budgets_has_none() -> None:
    async with console() as it:
        assert (await it.get("/api/budgets")).json == {"budgets": []}


async def test_alerts_are_shown_newest_first_and_only_so_many() -> None:
    house = House()
    for part in (1, 2, 3):
        await house.alerts.fire([an_alert(part_ppm=part * 100_000)])
    async with console(house) as it:
        answer = await it.get("/api/budgets/alerts?limit=2")
    assert [each["threshold_percent"] for each in answer.json["alerts"]] == ["30", "20"]
    assert {each["state"] for each in answer.json["alerts"]} == {"waiting"}


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "last=3"])
async def test_a_question_that_cannot_be_answered_names_its_field(query: str) -> None:
    async with console() as it:
        answer = await it.get(f"/api/budgets/alerts?{query}")
    assert (answer.status, answer.json["error"]["param"]) == (400, query.partition("=")[0])


async def test_books_that_are_away_say_so() -> None:
    house = House(policy=replace(a_policy(), budgets={"research": BUDGET}))
    house.away()
    async with console(house) as it:
        assert (await it.get("/api/budgets")).status == 503
        assert (await it.get("/api/budgets/alerts")).status == 503
