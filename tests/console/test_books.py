"""`app.console.books` on a real socket."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from app.domain.caller import Caller
from app.domain.ledger.receipt import Receipt
from app.domain.ledger.view import receipt_view
from app.domain.metering.measurement import Outcome
from app.domain.money import Nanodollars
from app.domain.routing.plan import Refusal, RefusalReason
from tests.console.served import House, console
from tests.makers import a_caller, a_receipt, an_attempt, some_facts
from tests.ports.adjustment_book_suite import a_correction


def an_id(number: int) -> str:
    return f"019ab000-0000-7000-8000-{number:012d}"


def a_request(number: int, *, caller: Caller | None = None, charge: int = 1000) -> Receipt:
    request_id = an_id(number)
    return a_receipt(
        an_attempt(attempt_id=f"{request_id}/1", charge=Nanodollars(charge)),
        request_id=request_id,
        facts=some_facts(request_id=request_id, caller=caller or a_caller()),
    )


@pytest.fixture
async def house() -> House:
    made = House()
    teams = ("research", "search", "O'Brien; drop table receipt;--")
    for number, team in enumerate(teams, start=1):
        caller = a_caller(team=team, cost_centre=f"cc-{number}")
        await made.book(a_request(number, caller=caller, charge=1000 * number))
    return made


async def test_the_cost_report_sums_to_the_ledger(house: House) -> None:
    async with console(house) as it:
        answer = await it.get("/api/reports/cost?from=2026-11&by=team")
    assert answer.status == 200
    report = answer.json
    assert report["by"] == ["team"]
    assert report["total"]["charge_nanodollars"] == 6000
    assert sum(line["charge_nanodollars"] for line in report["lines"]) == 6000
    assert report["by_hosting"]["self_hosted"]["charge_nanodollars"] == 6000
    assert [line["team"] for line in report["lines"]][1:] == ["search", "research"]


async def test_a_cost_centre_is_matched_to_the_letter(house: House) -> None:
    async with console(house) as it:
        one = await it.get("/api/reports/cost?cost_centre=cc-1&cost_centre=cc-2")
        none = await it.get("/api/reports/cost", params={"cost_centre": "cc-1' or '1'='1"})
    assert one.json["total"]["charge_nanodollars"] == 3000
    assert none.json["total"]["requests"] == 0


async def test_finance_gets_the_same_report_as_csv(house: House) -> None:
    async with console(house) as it:
        answer = await it.get("/api/reports/cost?format=csv&by=team,target")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="cost-2026-11-01-2026-12-01.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert sum(int(row["charge_nanodollars"]) for row in rows) == 6000


async def test_a_period_without_requests_is_an_empty_report(house: House) -> None:
    async with console(house) as it:
        answer = await it.get("/api/reports/cost?from=2020&to=2020")
    assert answer.json["lines"] == []
    assert answer.json["total"]["charge_usd"] == "0.00"


async def test_requests_come_newest_first_and_in_pages(house: House) -> None:
    async with console(house) as it:
        first = await it.get("/api/requests?limit=2")
        second = await it.get(f"/api/requests?limit=2&before={first.json['next_before']}")
    assert [each["id"] for each in first.json["requests"]] == [an_id(3), an_id(2)]
    assert [each["id"] for each in second.json["requests"]] == [an_id(1)]
    assert second.json["next_before"] is None


async def test_one_request_is_shown_with_its_reasons_tokens_and_charge(house: House) -> None:
    async with console(house) as it:
        answer = await it.get(f"/api/requests/{an_id(2)}")
    found = await house.ledger.find(an_id(2))
    assert found is not None
    assert answer.json == receipt_view(found, adjustments=())
    assert answer.json["charge_nanodollars"] == 2000


async def test_a_corrected_request_tells_what_it_costs_now(house: House) -> None:
    found = await house.ledger.find(an_id(2))
    assert found is not None
    await house.adjustments.adjust([a_correction(1, amount=-500, of=found.attempts[0].attempt_id)])
    async with console(house) as it:
        one = await it.get(f"/api/requests/{an_id(2)}")
        listed = await it.get("/api/requests")
    assert (one.json["charge_nanodollars"], one.json["corrected_charge_nanodollars"]) == (2000, 1500)
    assert [each["corrected_charge_nanodollars"] for each in listed.json["requests"]] == [3000, 1500, 1000]


@pytest.mark.parametrize("request_id", [an_id(9), "x", "'%20or%201=1", "%00", "x" * 3000])
async def test_a_request_that_is_not_there_is_not_found(house: House, request_id: str) -> None:
    async with console(house) as it:
        answer = await it.get(f"/api/requests/{request_id}")
    assert answer.status == 404


async def test_a_refused_request_is_listed_like_any_other() -> None:
    refusal = Refusal(reason=RefusalReason.NO_TARGET, rule="home", message="nobody")
    house = House()
    await house.book(replace(a_receipt(decision=refusal, outcome=Outcome.REFUSED, status=503), attempts=()))
    async with console(house) as it:
        answer = await it.get("/api/requests")
        page = await it.get("/api/reports/cost?by=target")
    assert answer.json["requests"][0]["target"] is None
    assert page.json["lines"][0]["target"] == ""
