"""What the rules see of the running gateway: limits of targets, money of budgets, and copies for shadows."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from app.bootstrap.office import office
from app.domain.ledger.report import SHADOW, CostQuery, Dimension
from app.domain.metering.measurement import Outcome
from app.flows.reports import cost_report
from tests.gateway_process import GatewayProcess
from tests.journeys.conftest import Open
from tests.upstream import ScriptedUpstream, stream, whole

ASK: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}


async def _ask(gateway: GatewayProcess, **fields: object) -> dict[str, str]:
    """The headers of an answer."""
    async with (
        gateway.session() as session,
        session.post("/v1/chat/completions", json={**ASK, **fields}) as answer,
    ):
        assert answer.status == 200, await answer.text()
        assert b"from the shade" not in await answer.read()
        return {name.lower(): value for name, value in answer.headers.items()}


async def test_a_copy_of_each_answer_goes_to_the_shadow_and_is_booked_apart(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    rule = "      - {name: all, use: [first], shadow: {target: shade, share: 1, max_usd_per_day: 5}}"
    gateway = await open_gateway({"first": upstream.url, "shade": second.url}, rules=rule)
    upstream.always(stream(words=("from", " home")))
    second.always(stream(words=("from", " the", " shade", " from the shade")))
    headers = await _ask(gateway, stream=True, temperature=0.5)
    copy, answered = await gateway.receipts(2)
    assert (answered.request_id, answered.shadow_of) == (headers["x-request-id"], None)
    assert (copy.shadow_of, copy.outcome) == (answered.request_id, Outcome.COMPLETE)
    assert [attempt.target for attempt in copy.attempts] == ["shade"]
    assert copy.attempts[0].usage.output > answered.attempts[0].usage.output
    async with gateway.session() as session:
        async with session.get(f"/v1/receipts/{answered.request_id}") as mine:
            assert mine.status == 200
            assert "shade" not in await mine.text()
        async with session.get(f"/v1/receipts/{copy.request_id}") as hidden:
            assert hidden.status == 404
    async with office(gateway.settings) as rooms:
        day = datetime.fromtimestamp(answered.at_us / 1e6, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        query = CostQuery(since=day.replace(day=1), until=day + timedelta(days=366), by=(Dimension.TEAM,))
        report = await cost_report(rooms.reports, query)
    assert {line.shadow: line.sums.charge for line in report.lines} == {False: answered.charge, True: copy.charge}
    assert {name: sums.requests for name, sums in report.by_hosting.items()} == {"managed": 1, SHADOW: 1}
    assert report.total.charge == answered.charge + copy.charge


async def test_a_gateway_that_is_killed_books_the_copy_that_was_under_way(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    rule = "      - {name: all, use: [first], shadow: {target: shade, share: 1}}"
    gateway = await open_gateway({"first": upstream.url, "shade": second.url}, rules=rule)
    upstream.always(whole())
    second.always(whole(first_s=30))
    headers = await _ask(gateway)
    async with asyncio.timeout(20):
        while not second.heard:
            await asyncio.sleep(0.05)
    gateway.kill()
    await gateway.start()
    copy, answered = await gateway.receipts(2)
    assert answered.request_id == headers["x-request-id"]
    assert (copy.shadow_of, copy.outcome) == (answered.request_id, Outcome.INTERRUPTED)
    assert copy.charge > 0


async def test_a_target_whose_minute_is_used_up_is_left_for_the_next(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    gateway = await open_gateway({"first": upstream.url, "second": second.url}, first_limits="{requests_per_minute: 3}")
    for each in (upstream, second):
        each.always(whole())
    went = [(await _ask(gateway))["x-breakeven-target"] for _ in range(5)]
    assert went == ["first"] * 3 + ["second"] * 2
    refused = (await gateway.receipts(5))[0].decision.candidates[0]
    assert (refused.target, refused.filter, refused.seen.requests_left) == ("first", "rate", 0)


async def test_a_condition_on_a_budget_follows_the_money(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    rules = "\n".join(
        [
            "      - {name: spent, when: 'budget[\"research\"].used >= 1.0', use: [second]}",
            "      - {name: all, use: [first, second]}",
        ]
    )
    budgets = "budgets:\n  research: {of: {team: research}, usd: 0.00001, every: month, mode: watch}"
    gateway = await open_gateway({"first": upstream.url, "second": second.url}, rules=rules, extra=budgets)
    for each in (upstream, second):
        each.always(whole())
    assert (await _ask(gateway))["x-breakeven-target"] == "first"
    async with asyncio.timeout(20):
        while (headers := await _ask(gateway))["x-breakeven-rule"] != "spent":
            await asyncio.sleep(0.2)
    assert headers["x-breakeven-target"] == "second"
    seen = (await gateway.receipt(headers["x-request-id"])).decision.witness.budgets["research"]
    assert seen.used >= 1.0
