from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace

import pytest

from app.domain.engine import EngineReading, EngineTrial, Health, ServedModel
from app.domain.errors import FaultKind, TargetFailure
from app.domain.metering.meter import Meter
from app.domain.routing.policy import Policy
from app.domain.signals import EngineSignals, SignalName
from app.domain.target import Circuit, Hosting, Target
from app.domain.usage import Usage
from app.flows.watch_fleet import (
    IDLE_S,
    MODELS_AGAIN_S,
    POLL_EVERY_S,
    POLL_SPREAD,
    RESTING_EVERY_S,
    SURE_WITHIN_S,
    TICK_S,
    FleetWatch,
)
from app.live.fleet import Fleet
from app.live.policy_slot import PolicySlot
from app.providers.credentials import NamedCredentials
from app.providers.engine_probe import HttpEngineProbe
from app.providers.engines.families import FAMILIES
from app.providers.http import http_client
from app.system import SystemClock
from tests.engines.server import MODEL, FakeEngine
from tests.engines.spoken import SPOKEN
from tests.makers import a_policy, a_target
from tests.upstream import unreachable_url

OURS = a_target(family=FAMILIES["vllm"])


@dataclass(slots=True)
class _Clock:
    """ports.Clock that moves when told."""

    now_s: float = 100.0

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_us(self) -> int:
        return 0


@dataclass(slots=True)
class _Engine:
    """ports.EngineProbe of one engine that answers as told, at once unless it is `slow`."""

    clock: _Clock
    models: tuple[str, ...] = ("smollm2",)
    version: str | None = "0.11"
    health: Health = Health.READY
    numbers: Mapping[SignalName, float] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    slow: asyncio.Event | None = None
    at_once: int = 0
    at_once_most: int = 0

    async def signals(self, target: Target) -> EngineSignals:
        async with self._one("load"):
            return EngineSignals(at_s=self.clock.now_s, numbers=self.numbers, missing={})

    async def look(self, target: Target) -> EngineReading:
        async with self._one("models"):
            return EngineReading(
                at_s=self.clock.now_s,
                health=self.health,
                signals=EngineSignals(at_s=self.clock.now_s, numbers=self.numbers, missing={}),
                models=tuple(ServedModel(name=name) for name in self.models),
                version=self.version,
            )

    async def try_out(self, target: Target) -> EngineTrial:
        raise AssertionError("nobody tries an engine out while it serves")

    @contextlib.asynccontextmanager
    async def _one(self, question: str) -> AsyncIterator[None]:
        self.asked.append(question)
        self.at_once += 1
        self.at_once_most = max(self.at_once_most, self.at_once)
        try:
            if self.slow is not None:
                await self.slow.wait()
            yield
        finally:
            self.at_once -= 1


@dataclass(slots=True)
class _Rooms:
    clock: _Clock
    engine: _Engine
    fleet: Fleet
    slot: PolicySlot
    watch: FleetWatch
    said: list[str]

    async def ask(self) -> list[str]:
        """Everything that is due now, answered; what was asked."""
        before = len(self.engine.asked)
        for question in self.watch.due():
            await question
        return self.engine.asked[before:]

    async def after(self, seconds: float) -> list[str]:
        self.clock.now_s += seconds
        return await self.ask()

    async def over(self, seconds: float) -> list[str]:
        """What is asked in a time, looking as often as the loop does."""
        return [each for _ in range(round(seconds / TICK_S)) for each in await self.after(TICK_S)]

    def request(self) -> None:
        """One request comes and goes."""
        self.fleet.entered("home", at_s=self.clock.now_s)
        self.fleet.left("home", at_s=self.clock.now_s, answered=True)

    def breaks(self) -> None:
        """A connection to it breaks."""
        failure = TargetFailure("cut", kind=FaultKind.CUT, target="home")
        self.fleet.entered("home", at_s=self.clock.now_s)
        self.fleet.left("home", at_s=self.clock.now_s, answered=False, failure=failure)

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """For the length of the block it asks by itself."""
        task = asyncio.create_task(self.watch.keep())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def instead(self) -> str:
        return self.fleet.view(at_s=self.clock.now_s)["home"].serves_instead


def _rooms(*targets: Target, jitter: float = 0.5, **engine: object) -> _Rooms:
    clock, policy = _Clock(), a_policy(*(targets or (OURS,)))
    fleet, slot, said = Fleet(has_credential=lambda name: True), PolicySlot(policy), list[str]()
    fleet.follow(policy)
    probe = _Engine(clock, **engine)  # type: ignore[arg-type]
    watch = FleetWatch(probe, fleet, slot, clock=clock, jitter=lambda: jitter, notice=said.append)
    return _Rooms(clock=clock, engine=probe, fleet=fleet, slot=slot, watch=watch, said=said)


def _swap(rooms: _Rooms, policy: Policy) -> None:
    rooms.slot.swap(policy)
    rooms.fleet.follow(policy)


async def test_a_target_is_asked_for_its_models_when_it_is_first_seen_and_for_nothing_more_while_nobody_asks() -> None:
    rooms = _rooms()
    assert await rooms.over(30) == ["models"]


async def test_load_is_polled_while_requests_flow_and_not_long_after() -> None:
    rooms = _rooms()
    await rooms.ask()
    rooms.request()
    polls = await rooms.over(IDLE_S)
    assert set(polls) == {"load"}
    assert IDLE_S / (1.5 * POLL_EVERY_S) <= len(polls) <= IDLE_S / (POLL_EVERY_S * (1 - POLL_SPREAD))
    assert await rooms.over(IDLE_S) == []


async def test_a_request_that_takes_long_keeps_the_polls_going() -> None:
    rooms = _rooms()
    await rooms.ask()
    rooms.fleet.entered("home", at_s=rooms.clock.now_s)
    await rooms.over(60)
    assert "load" in await rooms.over(2)


async def test_the_first_request_after_a_rest_wakes_the_polls_at_the_next_look() -> None:
    rooms = _rooms()
    await rooms.over(60)
    rooms.request()
    assert await rooms.after(TICK_S) == ["load"]


@pytest.mark.parametrize(("jitter", "spread"), [(0.0, 1 - POLL_SPREAD), (0.999999, 1 + POLL_SPREAD)])
async def test_polls_are_spread_by_a_fifth(jitter: float, spread: float) -> None:
    rooms = _rooms(jitter=jitter)
    await rooms.ask()
    rooms.request()
    assert await rooms.after(POLL_EVERY_S * spread - 0.01) == []
    assert await rooms.after(0.02) == ["load"]


async def test_one_question_at_a_time_goes_to_a_target() -> None:
    rooms = _rooms(slow=asyncio.Event())
    rooms.request()
    asking = [asyncio.ensure_future(question) for question in rooms.watch.due()]
    await asyncio.sleep(0)
    assert await rooms.over(4) == []
    assert rooms.engine.slow is not None
    rooms.engine.slow.set()
    await asyncio.gather(*asking)
    rooms.request()
    assert await rooms.over(2) != []
    assert rooms.engine.at_once_most == 1


async def test_sellers_are_not_asked_and_engines_that_tell_nothing_are_not_polled() -> None:
    rooms = _rooms(a_target("away", hosting=Hosting.MANAGED), a_target("home"))
    rooms.request()
    assert await rooms.over(4) == ["models"]


async def test_what_others_have_there_is_what_the_engine_has_beyond_ours() -> None:
    rooms = _rooms(numbers={SignalName.RUNNING: 5.0, SignalName.WAITING: 1.0})
    for _ in range(2):
        rooms.fleet.entered("home", at_s=rooms.clock.now_s)
    await rooms.ask()
    assert rooms.fleet.view(at_s=rooms.clock.now_s)["home"].others == 4


async def test_what_left_while_the_engine_was_asked_is_not_taken_for_others() -> None:
    rooms = _rooms(numbers={SignalName.RUNNING: 2.0, SignalName.WAITING: 0.0}, slow=asyncio.Event())
    rooms.request()
    for _ in range(2):
        rooms.fleet.entered("home", at_s=rooms.clock.now_s)
    asking = [asyncio.ensure_future(question) for question in rooms.watch.due()]
    await asyncio.sleep(0)
    rooms.fleet.left("home", at_s=rooms.clock.now_s, answered=True)
    assert rooms.engine.slow is not None
    rooms.engine.slow.set()
    await asyncio.gather(*asking)
    assert rooms.fleet.view(at_s=rooms.clock.now_s)["home"].others == 0


async def test_polls_that_read_nothing_let_signals_grow_old_and_open_no_circuit() -> None:
    rooms = _rooms(numbers={SignalName.RUNNING: 5.0, SignalName.WAITING: 1.0})
    await rooms.ask()
    rooms.engine.numbers = {}
    for _ in range(20):
        rooms.request()
        await rooms.over(0.5)
    seen = rooms.fleet.view(at_s=rooms.clock.now_s)["home"]
    assert (seen.waiting, seen.others, seen.circuit) == (None, 0, Circuit.CLOSED)
    assert seen.age_s is not None
    assert seen.age_s >= 9


async def test_a_target_that_serves_another_model_is_kept_out_until_it_serves_the_right_one() -> None:
    rooms = _rooms(models=("llama", "qwen"))
    assert await rooms.ask() == ["models"]
    assert rooms.instead() == "llama, qwen"
    assert "home serves llama, qwen, not smollm2: nothing is sent there" in rooms.said[0]
    assert await rooms.after(MODELS_AGAIN_S - 0.1) == []
    assert await rooms.after(0.1) == ["models"]
    assert len(rooms.said) == 1
    rooms.engine.models = ("qwen", "smollm2")
    assert await rooms.after(MODELS_AGAIN_S) == ["models"]
    assert rooms.instead() == ""
    assert "again" in rooms.said[1]
    assert await rooms.over(20) == []


async def test_an_engine_that_lists_no_models_is_asked_again_once_requests_flow() -> None:
    rooms = _rooms(models=())
    assert await rooms.over(20) == ["models"]
    assert rooms.instead() == ""
    rooms.request()
    assert "models" in await rooms.after(TICK_S)


async def test_what_was_known_of_its_model_stands_while_an_engine_does_not_tell() -> None:
    rooms = _rooms(models=("llama",))
    await rooms.ask()
    rooms.engine.models = ()
    assert await rooms.after(MODELS_AGAIN_S) == ["models"]
    assert rooms.instead() == "llama"


async def test_counters_that_went_back_mean_another_start_and_the_model_is_asked_for() -> None:
    rooms = _rooms(numbers={SignalName.GENERATION_TOKENS: 900.0})
    await rooms.ask()
    rooms.request()
    assert await rooms.over(1) == ["load"]
    rooms.engine.numbers, rooms.engine.models = {SignalName.GENERATION_TOKENS: 3.0}, ("llama",)
    assert (await rooms.over(1))[:2] == ["load", "models"]
    assert rooms.instead() == "llama"


async def test_around_a_rest_after_failures_the_model_is_asked_for() -> None:
    rooms = _rooms()
    await rooms.ask()
    failure = TargetFailure("gone", kind=FaultKind.REFUSED_CONNECTION, target="home")
    for _ in range(2):
        rooms.fleet.entered("home", at_s=rooms.clock.now_s)
        rooms.fleet.left("home", at_s=rooms.clock.now_s, answered=False, failure=failure)
    assert rooms.fleet.view(at_s=rooms.clock.now_s)["home"].circuit is Circuit.OPEN
    rooms.engine.models = ("llama",)
    assert "models" in await rooms.over(RESTING_EVERY_S + TICK_S)
    assert rooms.instead() == "llama"


async def test_all_who_are_to_be_sent_where_a_connection_broke_wait_for_one_answer_to_what_it_serves() -> None:
    rooms = _rooms()
    async with rooms.watching():
        while rooms.engine.asked != ["models"]:
            await asyncio.sleep(0)
        rooms.engine.models = ("llama",)
        rooms.breaks()
        await asyncio.wait_for(asyncio.gather(*[rooms.watch.make_sure("home") for _ in range(20)]), 5)
        assert rooms.engine.asked == ["models", "models"]
    assert rooms.instead() == "llama"
    assert not rooms.fleet.is_in_doubt("home")


async def test_what_an_engine_said_before_its_connection_broke_says_nothing_of_what_is_there_now() -> None:
    rooms = _rooms(slow=asyncio.Event())
    assert rooms.engine.slow is not None
    async with rooms.watching():
        while rooms.engine.asked != ["models"]:
            await asyncio.sleep(0)
        rooms.clock.now_s += 1
        rooms.breaks()
        sure = asyncio.create_task(rooms.watch.make_sure("home"))
        await asyncio.sleep(0)
        rooms.engine.slow.set()
        await asyncio.wait_for(sure, 5)
        assert rooms.engine.asked == ["models", "models"]
    assert not rooms.fleet.is_in_doubt("home")


async def test_one_that_is_away_stays_in_doubt_and_is_waited_for_no_longer_than_it_takes_to_ask() -> None:
    rooms = _rooms(health=Health.AWAY, models=())
    async with rooms.watching():
        rooms.breaks()
        await asyncio.wait_for(rooms.watch.make_sure("home"), 5)
        assert rooms.fleet.is_in_doubt("home")
        rooms.engine.health, rooms.engine.models = Health.READY, ("smollm2",)
        await asyncio.wait_for(rooms.watch.make_sure("home"), 5)
    assert not rooms.fleet.is_in_doubt("home")
    assert rooms.instead() == ""


async def test_one_that_is_still_loading_stays_in_doubt_until_it_says_what_it_has_loaded() -> None:
    rooms = _rooms(health=Health.NOT_READY, models=())
    async with rooms.watching():
        rooms.breaks()
        await asyncio.wait_for(rooms.watch.make_sure("home"), 5)
        assert rooms.fleet.is_in_doubt("home")
        rooms.engine.health, rooms.engine.models = Health.READY, ("llama",)
        await asyncio.wait_for(rooms.watch.make_sure("home"), 5)
    assert not rooms.fleet.is_in_doubt("home")
    assert rooms.instead() == "llama"


async def test_one_that_serves_and_never_lists_its_models_is_asked_about_once() -> None:
    rooms = _rooms(health=Health.READY, models=())
    async with rooms.watching():
        rooms.breaks()
        await asyncio.wait_for(rooms.watch.make_sure("home"), 5)
    assert not rooms.fleet.is_in_doubt("home")


async def test_one_that_does_not_answer_is_not_waited_for_for_long() -> None:
    rooms = _rooms(slow=asyncio.Event())
    assert rooms.engine.slow is not None
    loop = asyncio.get_running_loop()
    async with rooms.watching():
        rooms.breaks()
        began_s = loop.time()
        await asyncio.wait_for(rooms.watch.make_sure("home"), 10)
        assert loop.time() - began_s >= SURE_WITHIN_S - 0.01
        # Nor by every request anew.
        rooms.clock.now_s += MODELS_AGAIN_S - 0.1
        known = asyncio.create_task(rooms.watch.make_sure("home"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert known.done()
        rooms.clock.now_s += 0.1
        rooms.engine.slow.set()
        await asyncio.wait_for(rooms.watch.make_sure("home"), 5)
    assert not rooms.fleet.is_in_doubt("home")
    await rooms.watch.make_sure("nobody")


async def test_a_target_in_doubt_is_asked_by_itself_too_while_requests_flow() -> None:
    rooms = _rooms()
    assert await rooms.ask() == ["models"]
    await rooms.over(RESTING_EVERY_S)
    rooms.breaks()
    assert await rooms.after(TICK_S) == ["models"]
    assert not rooms.fleet.is_in_doubt("home")
    assert "models" not in await rooms.over(IDLE_S)


async def test_a_target_that_the_policy_changed_is_asked_anew_and_one_that_is_gone_is_forgotten() -> None:
    rooms = _rooms()
    await rooms.ask()
    _swap(rooms, a_policy(replace(OURS, in_flight_most=9)))
    assert await rooms.over(1) == []
    _swap(rooms, a_policy(replace(OURS, model="llama")))
    assert await rooms.ask() == ["models"]
    assert rooms.instead() == "smollm2"
    _swap(rooms, a_policy(a_target("other", hosting=Hosting.MANAGED)))
    assert await rooms.over(MODELS_AGAIN_S + 1) == []


@pytest.fixture
async def probe() -> AsyncIterator[HttpEngineProbe]:
    client = http_client()
    yield HttpEngineProbe(client, NamedCredentials({}), SystemClock())
    await client.close()


async def _watched(probe: HttpEngineProbe, target: Target) -> Fleet:
    policy, clock = a_policy(target), SystemClock()
    fleet = Fleet(has_credential=lambda name: True)
    fleet.follow(policy)
    watch = FleetWatch(probe, fleet, PolicySlot(policy), clock=clock, jitter=lambda: 0.5, notice=lambda said: None)
    for question in watch.due():
        await question
    return fleet


@pytest.mark.parametrize("model", [MODEL, "smollm2"])
async def test_every_family_is_known_by_what_it_serves(probe: HttpEngineProbe, model: str) -> None:
    for family in sorted(set(SPOKEN) - {"triton"}):
        async with FakeEngine(SPOKEN[family]) as engine:
            target = a_target(url=engine.url, model=model, kind=family, family=FAMILIES[family])
            fleet = await _watched(probe, target)
        seen = fleet.view(at_s=SystemClock().monotonic_s())["home"]
        assert bool(seen.serves_instead) is (model != MODEL), family


async def test_an_engine_that_is_away_is_taken_for_what_the_policy_says(probe: HttpEngineProbe) -> None:
    fleet = await _watched(probe, replace(OURS, url=unreachable_url()))
    assert fleet.view(at_s=SystemClock().monotonic_s())["home"].serves_instead == ""


async def test_an_engine_that_comes_back_in_another_version_is_learned_anew() -> None:
    rooms = _rooms(numbers={SignalName.GENERATION_TOKENS: 900.0})
    await rooms.ask()
    assert _learns(rooms) == ["0.11"]
    for version in (None, "0.11"):
        rooms.engine.version, rooms.engine.numbers = version, {SignalName.GENERATION_TOKENS: 10.0}
        await rooms.over(2 * POLL_EVERY_S)
        rooms.engine.numbers = {SignalName.GENERATION_TOKENS: 900.0}
        rooms.request()
        await rooms.over(2 * POLL_EVERY_S)
        assert [curve.engine_version for curve in rooms.fleet.learned()] == ["0.11"]
    rooms.engine.version, rooms.engine.numbers = "0.12", {SignalName.GENERATION_TOKENS: 10.0}
    rooms.request()
    await rooms.over(2 * POLL_EVERY_S)
    assert rooms.fleet.learned() == []
    assert rooms.fleet.view(at_s=rooms.clock.now_s)["home"].predicted_ttft_ms is None
    assert _learns(rooms) == ["0.12"]


def _learns(rooms: _Rooms) -> list[str]:
    """Some streamed answers come; the version that what they teach is said to be of."""
    for _ in range(4):
        meter, at_s = Meter(started_s=rooms.clock.now_s, prompt_estimate=0), rooms.clock.now_s
        rooms.fleet.entered("home", at_s=at_s, prompt_tokens=100, meter=meter, streamed=True)
        usage = Usage(prompt=100, output=9)
        rooms.fleet.left("home", at_s=at_s, answered=True, ttft_s=0.2, tpot_s=0.01, usage=usage, meter=meter)
    assert rooms.fleet.view(at_s=rooms.clock.now_s)["home"].prefill_tokens_per_s is not None
    return [curve.engine_version for curve in rooms.fleet.learned()]
