"""Machines of ours that die, fill up or come back as another, one gateway in front of all: what callers see, what is
booked, how long it takes. A seller that is dearer stands behind each."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from app.domain.ledger.receipt import Receipt
from app.domain.metering.measurement import Outcome
from app.domain.routing.plan import Candidate, Plan
from app.storage.embedded import EmbeddedPostgres
from tests.books import said
from tests.engines.loaded import MODEL, LoadedEngine
from tests.gateway_process import POLL_S, GatewayProcess
from tests.journeys.test_streams_break import PRICE, Got
from tests.oracle import broken_ones, joined, proven, settled_books
from tests.postgres import FreshDatabases
from tests.upstream import (
    Answer,
    Hang,
    Heard,
    Pause,
    ScriptedUpstream,
    chunk,
    part,
    refusal,
    stream,
    stream_head,
    whole,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENGINES = ("dies", "fills", "swings", "hot", "cold")
TIMEOUTS = {"connect_s": 2, "first_token_s": 8, "idle_s": 8, "total_s": 30}
#: At this price and these speeds tokens of ours cost what the oracle reckons with, and the seller's ten times that.
BOX_USD_PER_HOUR = 3.6
SPEED = {"prefill_tokens_per_s": 1000, "decode_tokens_per_s": 100}
SELLER = {"prompt": 10, "cached_prompt": 1, "completion": 100}
CAP = 40
SPILLS_OVER_MS = 1500
SWINGS_OVER_MS = 400
#: Room for requests at the machine of ours, and for none at the seller.
SMALL_USD = 0.003
CAP_USD_PER_HOUR = 0.00001
#: Nobody waits longer for what is to come at once; the machine is shared.
AT_ONCE_S = 8.0
#: A machine that stands still for so long lets an engine of 4 run empty, or lets all come there before it is seen to be
#: full, and it swings until that is through: it is looked at again, so often.
STOOD_STILL_S = 0.25
LOOKS = 6
#: Promised is a second; a busy machine may need more.
OUT_WITHIN_S = 3.0

#: What vLLM says of requests when its engine is gone.
DEAD = {"error": {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "code": 500}}


@dataclass(slots=True)
class Bed:
    """The gateway, its engines and the seller."""

    gateway: GatewayProcess
    engines: dict[str, LoadedEngine]
    away: ScriptedUpstream
    #: Receipts that there have to be.
    count: int = 0

    async def ask(self, model: str, *, streamed: bool = True, cap: int = CAP) -> Got:
        body = {"model": model, "stream": streamed, "max_tokens": cap, "messages": [{"role": "user", "content": "hi"}]}
        self.count += 1
        async with self.gateway.session() as session, session.post("/v1/chat/completions", json=body) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return Got(status=answer.status, headers=headers, body=await answer.read())

    async def sent_to(self, model: str) -> str:
        """Who answers such a request now; whoever it is, the caller gets all of it."""
        got = await self.ask(model)
        assert (got.status, got.is_whole) == (200, True)
        return got.headers["x-breakeven-target"]

    async def books(self) -> dict[str, Receipt]:
        """All receipts so far; nothing is lost, double, invented, wrong or out of bounds."""
        await settled_books(self.gateway)
        receipts = await self.gateway.receipts(self.count)
        asked = [each for one in (*self.engines.values(), self.away) for each in one.heard if each.method == "POST"]
        assert not (difference := joined(asked, receipts, price=PRICE)), difference
        return {receipt.request_id: receipt for receipt in receipts}


def _policy(engines: dict[str, LoadedEngine], away: str) -> dict[str, object]:
    box = {"hosting": "self_hosted", "engine": "vllm", "model": MODEL, "can": ["chat"], "machine": {"type": "box"}}
    targets: dict[str, object] = {name: {**box, "url": engine.url} for name, engine in engines.items()}
    targets["away"] = {"hosting": "managed", "provider": "openai", "model": "m", "can": ["chat"], "url": away}

    def model(*use: str, **rule: object) -> dict[str, object]:
        return {"timeouts": TIMEOUTS, "rules": [{"name": "all", "use": [*use], **rule}]}

    spill = {"predicted_ttft_ms": SPILLS_OVER_MS}
    return {
        "targets": targets,
        "models": {
            **{name: model(name, "away") for name in ("dies", "hot", "cold")},
            **{f"{name}-alone": model(name) for name in ("hot", "cold")},
            "fills": model("fills", "away", spill=spill),
            "budgeted": model("fills", "away", spill=spill),
            "capped": model("fills", "away", spill={**spill, "max_usd_per_hour": CAP_USD_PER_HOUR}),
            "swings": model("swings", "away", spill={"predicted_ttft_ms": SWINGS_OVER_MS}),
        },
        "budgets": {"small": {"of": {"model": "budgeted"}, "usd": SMALL_USD, "every": "month"}},
        "rates": {
            "machines": {"box": {"usd_per_hour": BOX_USD_PER_HOUR}},
            "targets": {**{name: {"measured": SPEED} for name in engines}, "away": {"usd_per_million_tokens": SELLER}},
        },
    }


def _answers(heard: Heard) -> Answer:
    return stream() if heard.json.get("stream") else whole()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bed(
    migrated: str, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bed]:
    directory, databases = tmp_path_factory.mktemp("engines"), FreshDatabases(server=postgres)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(databases.drop_all)
        engines = {name: await stack.enter_async_context(LoadedEngine()) for name in ENGINES}
        away = await stack.enter_async_context(ScriptedUpstream())
        away.always(_answers)
        policies, data = directory / "policies", directory / "data"
        policies.mkdir()
        data.mkdir()
        (policies / "all.yaml").write_text(json.dumps(_policy(engines, away.url)))
        gateway = GatewayProcess(data=data, policies=policies, database_url=await databases(migrated))
        try:
            await gateway.start()
            yield Bed(gateway=gateway, engines=engines, away=away)
            assert broken_ones(proven(gateway)) == []
        finally:
            await asyncio.to_thread(gateway.stop)


# ── F-37: an engine dies ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Caller:
    """Asks again and again; when it asked, and what it got."""

    bed: Bed
    streamed: bool
    seen: list[tuple[float, Got]] = field(default_factory=list)
    is_over: bool = False

    async def call(self) -> None:
        while not self.is_over:
            at_s = time.monotonic()
            self.seen.append((at_s, await self.bed.ask("dies", streamed=self.streamed)))
            await asyncio.sleep(0.02)

    def got_all(self, got: Got) -> bool:
        return got.status == 200 and (got.is_whole if self.streamed else not got.errors)


async def _chats(engine: LoadedEngine, count: int) -> None:
    """Wait until so many more have come."""
    most = len(engine.chats) + count
    async with asyncio.timeout(30):
        while len(engine.chats) < most:
            await asyncio.sleep(POLL_S)


def _begins(heard: Heard) -> Answer:
    """Streams begin, and nothing follows; who asks for a whole answer hears that the engine is dead."""
    if heard.json.get("stream"):
        return [stream_head(), part(chunk("some"), tokens=1), Hang()]
    return [Pause(seconds=0.5), *refusal(500, json.dumps(DEAD).encode())]


@dataclass(slots=True)
class Returned:
    """Its first answer after its return takes a second: who came beside it?"""

    first: Heard | None = None
    beside: int = 0

    def answer(self, heard: Heard) -> Answer:
        if self.first is None:
            self.first = heard
            return stream(first_s=1.0) if heard.json.get("stream") else whole(first_s=1.0)
        self.beside += not self.first.answered
        return _answers(heard)


async def test_an_engine_that_dies_is_out_at_once_probed_by_one_request_at_a_time_and_back_with_its_first_answer(
    bed: Bed,
) -> None:
    engine, callers = bed.engines["dies"], [Caller(bed, streamed=bool(number % 3)) for number in range(6)]
    engine.waits_s = 0.1
    async with asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(caller.call())
        await _chats(engine, 12)
        engine.chat = _begins
        await _chats(engine, len(callers))
        await asyncio.sleep(0.6)
        await engine.stop()
        dead_at_s = time.monotonic()
        await asyncio.sleep(OUT_WITHIN_S)
        returned = Returned()
        engine.chat = returned.answer
        await engine.come_back()
        await _chats(engine, 12)
        for caller in callers:
            caller.is_over = True
    receipts = await bed.books()
    broken = [got for caller in callers for _, got in caller.seen if not caller.got_all(got)]
    for got in broken:
        # Only streams that had begun: one error event each, and no end.
        assert (got.status, got.errors, got.text) == (200, ["cut"], "some")
        assert b"[DONE]" not in got.body
        # What it did for nothing is booked all the same, by the tokens that came of it.
        (attempt,) = receipts[got.headers["x-request-id"]].attempts
        assert (attempt.outcome, attempt.target, attempt.charge > 0) == (Outcome.BROKEN, "dies", True)
    assert 0 < len(broken) <= 4
    assert returned.beside == 0, "the probe is alone until it has its answer"
    assert all(caller.got_all(got) for caller in callers for at_s, got in caller.seen if at_s > dead_at_s)
    attempts = [each for receipt in receipts.values() for each in receipt.attempts if each.target == "dies"]
    vain_us = sorted(each.started_us for each in attempts if each.fault in {"server_error", "refused_connection"})
    print(f"{len(vain_us)} attempts met the dead engine, within {(vain_us[-1] - vain_us[0]) / 1e6:.2f} s")
    assert len(vain_us) <= 5 + len(callers)
    assert vain_us[-1] - vain_us[0] < 1e6 * OUT_WITHIN_S
    # All of it, also what came of streams that broke, is cleared against the pool of its machines.
    (pool,) = await said(
        bed.gateway.database_url, "select sum(amount)::bigint from posting where account = 'gpu_pool_clearing:dies'"
    )
    assert -pool[0] == sum(attempt.charge for attempt in attempts) > 0


# ── F-39: an engine is full ──────────────────────────────────────────────────────────────────────────────────────────


async def _until(bed: Bed, model: str, target: str) -> float:
    """Ask until this target answers; how long that took."""
    began_s = time.monotonic()
    async with asyncio.timeout(30):
        while await bed.sent_to(model) != target:
            await asyncio.sleep(POLL_S)
    return time.monotonic() - began_s


async def _candidate(bed: Bed, got: Got) -> Candidate:
    """How the request's machine of ours was seen when it was decided on."""
    decision = (await bed.gateway.receipt(got.headers["x-request-id"])).decision
    assert isinstance(decision, Plan)
    return decision.candidates[0]


async def test_an_engine_whose_memory_is_full_is_left_within_a_poll_as_far_as_money_allows_and_asked_again_after_it(
    bed: Bed,
) -> None:
    engine = bed.engines["fills"]
    engine.waits_s = 0.1
    for _ in range(5):  # its curve is learned
        assert await bed.sent_to("fills") == "fills"
    engine.others = (4, 90)  # what it works on fills its memory, and many wait for that
    left_s = await _until(bed, "fills", "away")
    chats = len(engine.chats)
    for _ in range(6):
        got = await bed.ask("fills")
        assert (got.is_whole, got.headers["x-breakeven-target"]) == (True, "away")
    assert len(engine.chats) == chats
    candidate = await _candidate(bed, got)
    assert (candidate.filter, candidate.seen.waiting) == ("spill", 90)
    assert "its first token is predicted after" in (candidate.held_back or "")

    # The seller is asked as far as the budget has room, and the machine, slow as it is, where it has none.
    got = await bed.ask("budgeted")
    assert (got.is_whole, got.headers["x-breakeven-target"]) == (True, "fills")
    receipt = await bed.gateway.receipt(got.headers["x-request-id"])
    assert "passed_over" in receipt.flag_words
    assert isinstance(receipt.decision, Plan)
    assert receipt.decision.order == ("away", "fills")
    refused = await bed.ask("budgeted", cap=4000)
    assert (refused.status, refused.errors) == (402, ["budget_exceeded"])

    # And until the rule has spent its cap of this hour.
    await _until(bed, "capped", "away")
    kept_s = await _until(bed, "capped", "fills")
    assert await bed.sent_to("capped") == "fills"

    engine.others = (4, 0)
    back_s = await _until(bed, "fills", "fills")
    print(f"left after {left_s:.2f} s, kept by the cap after {kept_s:.2f} s, back after {back_s:.2f} s")
    assert max(left_s, back_s) < AT_ONCE_S
    receipts = (await bed.books()).values()
    budgeted = [receipt for receipt in receipts if receipt.facts.model == "budgeted"]
    assert sum(receipt.charge for receipt in budgeted) <= 1e9 * SMALL_USD
    (account,) = await said(bed.gateway.database_url, "select spent, overrun from budget_account")
    assert (account["spent"], account["overrun"]) == (sum(receipt.charge for receipt in budgeted), 0)
    away = [receipt for receipt in receipts if receipt.facts.model == "capped" and receipt.attempts[0].target == "away"]
    assert len(away) == 1, "the first one is over the cap"


async def test_an_engine_at_its_limit_is_kept_full_and_neither_left_nor_flooded_by_all_at_once(bed: Bed) -> None:
    engine = bed.engines["swings"]
    engine.slots, engine.waits_s, engine.words = 4, 0.1, 12
    for _ in range(5):
        assert await bed.sent_to("swings") == "swings"
    bed.away.always(stream(first_s=0.5))  # as slow as ours
    over = asyncio.Event()

    async def caller() -> None:
        while not over.is_set():
            assert await bed.sent_to("swings") in {"swings", "away"}

    async with asyncio.TaskGroup() as group:
        for _ in range(24):
            group.create_task(caller())
        before_s = 0.0
        for _ in range(LOOKS):
            there, late_s = await _in_flight(bed, engine, for_s=1.5)
            if max(before_s, late_s) < STOOD_STILL_S:
                break
            print(f"once more: the machine stood still for {late_s:.2f} s")
            before_s = late_s
        over.set()
    bed.away.always(_answers)
    print(f"in flight at an engine of 4: {min(there)} to {max(there)}, {sum(there) / len(there):.1f} on average")
    assert min(there) >= 2, "it is never left by all"
    assert max(there) <= 16, "nor do all come back at once"
    await bed.books()


async def _in_flight(bed: Bed, engine: LoadedEngine, *, for_s: float) -> tuple[list[int], float]:
    """How many were at the engine, looked at all the time after a time in which all settles; and for how long in either
    the gateway or we, its targets, got no time to run."""
    there: list[int] = []
    _, before_s = await bed.gateway.loop_turns()
    late_s, settled_s = 0.0, time.monotonic() + for_s
    while (asked_s := time.monotonic()) < settled_s + for_s:
        await asyncio.sleep(0.05)
        late_s += time.monotonic() - asked_s - 0.05
        if asked_s > settled_s:
            there.append(engine.in_flight)
    _, after_s = await bed.gateway.loop_turns()
    return there, max(late_s, after_s - before_s)


# ── F-40: an engine comes back as another ────────────────────────────────────────────────────────────────────────────


async def _goes_elsewhere(bed: Bed, name: str, chats: int) -> None:
    """The next request is not sent to the engine, with another target and without; all is told and booked."""
    engine = bed.engines[name]
    covered, alone = await bed.ask(name), await bed.ask(f"{name}-alone")
    assert (covered.is_whole, covered.headers["x-breakeven-target"]) == (True, "away")
    assert (alone.status, alone.errors) == (503, ["no_target"])
    assert "it serves another, not upstream-model" in alone.body.decode()
    assert len(engine.chats) == chats
    receipts = await bed.books()
    assert receipts[alone.headers["x-request-id"]].charge == 0
    assert len(receipts[covered.headers["x-request-id"]].attempts) == 1


async def _asked_for(engine: LoadedEngine, path: str) -> None:
    """Wait until this page was asked for once more."""
    before = sum(heard.path == path for heard in engine.heard)
    async with asyncio.timeout(30):
        while sum(heard.path == path for heard in engine.heard) == before:
            await asyncio.sleep(POLL_S)


async def test_a_model_swapped_under_a_stream_ends_that_stream_well_and_gets_no_other(bed: Bed) -> None:
    engine = bed.engines["hot"]
    engine.waits_s, engine.tokens = 1.2, 900
    under_way = asyncio.create_task(bed.ask("hot"))
    await _chats(engine, 1)
    await _asked_for(engine, "/metrics")
    engine.model, engine.tokens = "another", 0  # its counters begin anew, which the next poll sees
    await _asked_for(engine, "/v1/models")
    assert not under_way.done()
    got = await under_way
    assert (got.is_whole, got.text, got.headers["x-breakeven-target"]) == (True, "some words", "hot")
    await _goes_elsewhere(bed, "hot", chats=1)
    (attempt,) = (await bed.gateway.receipt(got.headers["x-request-id"])).attempts
    assert (attempt.outcome, attempt.usage.output) == (Outcome.COMPLETE, 2)


async def test_an_engine_that_was_started_anew_as_another_is_asked_who_it_is_before_anything_is_sent_there(
    bed: Bed,
) -> None:
    engine = bed.engines["cold"]
    engine.waits_s = 1.0
    engine.chat = _stops_in_the_middle
    streamed, whole_one = asyncio.create_task(bed.ask("cold")), asyncio.create_task(bed.ask("cold", streamed=False))
    await _chats(engine, 2)
    await asyncio.sleep(0.1)
    await engine.stop()
    engine.chat, engine.model = None, "another"
    await engine.come_back()
    broke = await streamed
    assert (broke.status, broke.errors, broke.text) == (200, ["cut"], "some")
    assert b"[DONE]" not in broke.body
    # Its caller had seen nothing: the next one answered.
    answered = await whole_one
    assert (answered.status, answered.headers["x-breakeven-target"]) == (200, "away")
    await _goes_elsewhere(bed, "cold", chats=2)
    for got, outcomes in (
        (broke, [Outcome.BROKEN]),
        (answered, [Outcome.BROKEN, Outcome.COMPLETE]),
    ):
        receipt = await bed.gateway.receipt(got.headers["x-request-id"])
        assert [attempt.outcome for attempt in receipt.attempts] == outcomes
        assert all(attempt.charge > 0 for attempt in receipt.attempts)


def _stops_in_the_middle(heard: Heard) -> Answer:
    if heard.json.get("stream"):
        return [stream_head(), part(chunk("some"), tokens=1), Hang()]
    return [*whole(length=5000), Hang()]
