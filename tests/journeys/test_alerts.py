"""Budgets that warn: four gateway processes, a restart, a receiver that stumbles, and every alert arrives once."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re

import pytest

from app.bootstrap.run_files import metrics_of_all
from tests.books import said
from tests.gateway_process import GatewayProcess
from tests.journeys.conftest import Open
from tests.upstream import Heard, ScriptedUpstream, refusal, whole

ASK = {"model": "chat", "max_tokens": 40, "messages": [{"role": "user", "content": "hello"}]}
SECRET = "s3cret-of-the-hook"
BUDGET = "budgets:\n  all-of-it: {{usd: {usd}, every: month, mode: watch, warn_at: [0.5, 1.0]}}\n"


async def looked(gateway: GatewayProcess, *, used: float) -> None:
    """Wait until each of the four processes has seen the budget this far spent."""
    async with asyncio.timeout(60):
        while True:
            texts = (await metrics_of_all(gateway.settings)).values()
            found = [
                re.search(rb'^breakeven_budget_used_ratio\{budget="all-of-it"\} (\S+)$', text, re.M) for text in texts
            ]
            if sum(one is not None and float(one[1]) == pytest.approx(used, rel=0.01) for one in found) == 4:
                return
            await asyncio.sleep(0.1)


def alerts(receiver: ScriptedUpstream) -> set[tuple[object, object]]:
    """What arrived of thresholds: amount and percent. Forecasts depend on the day of the month, and are left out."""
    return {(one.json["usd"], one.json["threshold_percent"]) for one in receiver.heard if one.json["kind"] == "spent"}


def is_signed(heard: Heard) -> bool:
    signed = heard.headers["breakeven-timestamp"].encode() + b"." + heard.body
    return heard.headers["breakeven-signature"] == "v1=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()


async def test_each_threshold_is_told_once_over_four_processes_and_a_restart_and_again_when_it_is_raised(
    open_gateway: Open, upstream: ScriptedUpstream, second: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAKEVEN_ALERT_WEBHOOK_URL", f"{second.url}/hook")
    monkeypatch.setenv("BREAKEVEN_ALERT_WEBHOOK_SECRET", "env:HOOK_SECRET")
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    upstream.always(whole())
    second.will(refusal(500))
    second.always(whole(b"ok"))
    gateway = await open_gateway({"home": upstream.url}, workers=4, extra=BUDGET.format(usd="0.000001"))
    async with gateway.session() as session, session.post("/v1/chat/completions", json=ASK) as reply:
        assert reply.status == 200
    await second.heard_one(3, within_s=60)
    assert alerts(second) == {("0.000001", "50"), ("0.000001", "100")}
    assert all(is_signed(heard) for heard in second.heard)
    (row,) = await said(gateway.database_url, "select sum(charge)::bigint as spent from attempt")
    spent = row["spent"]
    gateway.stop()
    await gateway.start()
    await looked(gateway, used=spent / 1000)
    assert len(await said(gateway.database_url, "select from alert where kind = 'spent'")) == 2

    raised = spent * 3 // 2
    page = next(path for path in gateway.policies.glob("*.yaml") if "all-of-it" in path.read_text())
    page.write_text(page.read_text().replace("usd: 0.000001", f"usd: {raised / 1e9:.9f}"))
    await looked(gateway, used=2 / 3)
    async with asyncio.timeout(60):
        while len(alerts(second)) < 3:
            await asyncio.sleep(0.1)
    rows = await said(gateway.database_url, "select state, amount from alert where kind = 'spent' order by amount")
    assert [row["amount"] for row in rows] == [1000, 1000, raised]
    ids = [heard.headers["breakeven-alert"] for heard in second.heard]
    assert len(ids) == len(set(ids)) + 1, "the one that failed came twice, under the same id, and no other did"
