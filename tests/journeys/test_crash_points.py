"""kill -9 at each point of a request's story: what the target would bill and what the books say stay one."""

from __future__ import annotations

import asyncio
import json
import signal
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest

from app.bootstrap.crash import POINTS, Seams, read_crash_point
from app.domain.errors import SetupError
from app.domain.metering.measurement import Outcome
from app.domain.pricing.rate_card import RateCard
from tests.api.surface import Surface
from tests.books import said
from tests.flows.house import a_house
from tests.gateway_process import GatewayProcess, write_policy
from tests.oracle import broken_ones, joined, proven, settled_books
from tests.upstream import ScriptedUpstream, stream

PRICE = RateCard.of(prompt=Decimal(1), cached_prompt=Decimal("0.1"), output=Decimal(10))
#: Longer than the stretch that intents and checkpoints run ahead.
WORDS = [f" w{n}" for n in range(100)]
ASK = {"model": "chat", "stream": True, "max_tokens": 400, "messages": [{"role": "user", "content": "hello"}]}
BUDGETS = "budgets:\n  all-of-it: {usd: 50, every: month}\n"
AT_ONCE = 4
#: Each event of a stream passes `mid_stream`: more than a checkpoint's stretch is delivered. Batches may be one.
PASSING = {"mid_stream": 300, "after_commit": 1}
USUAL_PASSING = 2
DIES_WITHIN_S = 30.0


async def answered(gateway: GatewayProcess) -> str | None:
    """The request's id if its caller saw `[DONE]`."""
    try:
        async with gateway.session() as session, session.post("/v1/chat/completions", json=ASK) as reply:
            body = await reply.read()
            return reply.headers["x-request-id"] if body.endswith(b"data: [DONE]\n\n") else None
    except aiohttp.ClientError:
        return None


async def crashed_at(point: str, gateway: GatewayProcess) -> set[str]:
    """Ask several at once of a gateway that dies there; the requests that were answered whole."""
    gateway.environment = {"BREAKEVEN_CRASH_AT": f"{point}:{PASSING.get(point, USUAL_PASSING)}"}
    await gateway.start()
    answers = await asyncio.gather(*(answered(gateway) for _ in range(AT_ONCE)))
    status = await asyncio.to_thread(gateway.ended, within_s=DIES_WITHIN_S)
    assert status == -signal.SIGKILL, f"{point}: it ended with {status}"
    return {request_id for request_id in answers if request_id is not None}


async def test_a_gateway_killed_at_each_of_nine_points_loses_nothing_and_books_nothing_twice(
    tmp_path: Path, books_url: str, looking: ScriptedUpstream
) -> None:
    upstream = looking  # what a killed process had not read yet, its checkpoints cannot cover
    upstream.always(stream(words=WORDS, pause_s=0.002))
    data = tmp_path / "data"
    data.mkdir()
    policies = write_policy(tmp_path / "policies", targets={"home": upstream.url}, extra=BUDGETS)
    gateway = GatewayProcess(data=data, policies=policies, database_url=books_url)
    told: set[str] = set()
    try:
        for point in POINTS:
            told |= await crashed_at(point, gateway)
        gateway.environment = {}
        await gateway.start()
        await settled_books(gateway)
        dispatched = {heard.attempt_id.partition("/")[0] for heard in upstream.heard}
        receipts = await gateway.receipts(len(dispatched))
        assert not (difference := joined(upstream.heard, receipts, price=PRICE)), difference
        outcomes = {receipt.request_id: receipt.outcome for receipt in receipts}
        assert {outcomes[request_id] for request_id in told} == {Outcome.COMPLETE}
        assert Outcome.INTERRUPTED in outcomes.values()
        ((spent, overrun),) = await said(books_url, "select spent, overrun from budget_account")
        assert spent == sum(receipt.charge for receipt in receipts)
        assert overrun == 0
        both = await asyncio.gather(*(asyncio.to_thread(proven, gateway) for _ in range(2)))
        assert [broken_ones(each) for each in both] == [[], []]
    finally:
        gateway.stop()


def test_unset_the_seams_give_back_what_they_are_given() -> None:
    seams, thing = Seams.of(None), object()
    for seam in (seams.journal, seams.provider, seams.book, seams.app):
        assert seam(thing) is thing  # type: ignore[operator]


@pytest.mark.parametrize("point", POINTS)
def test_every_point_but_the_last_is_met_on_the_way_that_serves(point: str) -> None:
    app = Surface(a_house()).app
    seamed = Seams.of(point).app(app)
    assert (seamed is app) == (point != "after_done")


@pytest.mark.parametrize("said_so", ["nowhere", "", "after_settle:", "after_settle:0", "after_settle:x", ":3"])
def test_a_crash_point_that_does_not_exist_is_refused_with_those_that_do(said_so: str) -> None:
    with pytest.raises(SetupError, match="before_intent, after_intent") as refused:
        read_crash_point(said_so)
    assert json.dumps(said_so)[1:-1] in str(refused.value)
