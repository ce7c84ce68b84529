"""Every family of engines through `app.providers.engine_probe`, which is what `app.ports.engines` says, and through the
provider: fakes of all of them, and our own worker, pass one suite (`tests/engines`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from app.domain.signals import SignalName
from app.domain.target import Target
from app.providers.credentials import NamedCredentials
from app.providers.engine_probe import HttpEngineProbe
from app.providers.engines.families import FAMILIES
from app.providers.exchange import HttpClient
from app.providers.http import http_client
from app.providers.openai_native import OpenAiProvider
from app.system import SystemClock
from tests.engines.server import KINDS, MODEL, TOO_LONG, Case, FakeEngine
from tests.engines.spoken import SPOKEN
from tests.engines.suite import EngineAtHand, EngineSuite
from tests.makers import a_target
from tests.upstream import Hang, ScriptedUpstream, Send, head, refusal
from tests.worker_process import MODEL as WORKERS_MODEL
from tests.worker_process import CpuWorker


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = http_client()
    yield client
    await client.close()


def test_every_family_has_its_fake() -> None:
    assert set(SPOKEN) == set(FAMILIES)


class TestFakes(EngineSuite):
    @pytest.fixture(params=sorted(SPOKEN))
    async def engine(self, request: pytest.FixtureRequest) -> AsyncIterator[FakeEngine]:
        async with FakeEngine(SPOKEN[request.param]) as engine:
            yield engine

    @pytest.fixture
    async def target(self, engine: FakeEngine) -> AsyncIterator[Target]:
        """With its page of figures at another port, where the family has it there."""
        family = FAMILIES[engine.spoken.family]
        target = a_target(url=engine.url, model=MODEL, kind=family.name, family=family)
        if engine.spoken.other_port is None:
            yield target
            return
        async with ScriptedUpstream() as figures:
            figures.always(lambda heard: engine.page(heard.path))
            port = figures.url.rpartition(":")[2].removesuffix("/v1")
            assert family.metrics == ":8002/metrics"
            yield replace(target, family=replace(family, metrics=f":{port}{engine.spoken.other_port}"))

    @pytest.fixture
    async def at_hand(self, engine: FakeEngine, target: Target, client: HttpClient) -> EngineAtHand:
        spoken = engine.spoken

        def become(case: Case) -> None:
            engine.full, engine.dead = case is Case.FULL, case is Case.DEAD

        return EngineAtHand(
            target=target,
            probe=HttpEngineProbe(client, NamedCredentials({}), SystemClock(), page_s=10),
            provider=OpenAiProvider(client, NamedCredentials({})),
            tells=frozenset(spoken.signals),
            context=spoken.context,
            has_version=spoken.version is not None,
            reports_cached=spoken.usage.cached > 0,
            faults={case: said.kind or KINDS[case] for case, said in spoken.errors.items()},
            become=become,
            too_long="x" * (TOO_LONG + 1),
        )

    async def test_every_signal_has_the_number_that_stands_there(
        self, at_hand: EngineAtHand, engine: FakeEngine
    ) -> None:
        signals = await at_hand.probe.signals(at_hand.target)
        assert signals.numbers == pytest.approx(dict(engine.spoken.signals))
        reading = await at_hand.probe.look(at_hand.target)
        assert reading.version == engine.spoken.version

    async def test_without_its_flags_what_it_told_is_missing_and_not_zero(
        self, at_hand: EngineAtHand, engine: FakeEngine
    ) -> None:
        if engine.spoken.bare_signals is None:
            pytest.skip("this engine tells the same without any flag")
        engine.fresh = False
        signals = await at_hand.probe.signals(at_hand.target)
        assert signals.numbers == pytest.approx(dict(engine.spoken.bare_signals))
        assert set(engine.spoken.signals) - set(engine.spoken.bare_signals) <= set(signals.missing)

    async def test_an_engine_that_cannot_serve_says_so_where_it_has_a_page_for_it(
        self, at_hand: EngineAtHand, engine: FakeEngine
    ) -> None:
        if engine.spoken.health is None:
            pytest.skip("this engine has no such page")
        engine.dead = True
        reading = await at_hand.probe.look(at_hand.target)
        assert reading.health.value == "not ready"

    async def test_a_poll_asks_for_as_few_pages_as_it_can(self, at_hand: EngineAtHand, engine: FakeEngine) -> None:
        for _ in range(3):
            await at_hand.probe.signals(at_hand.target)
        most = {"sglang": 2, "llamacpp": 2, "ollama": 0, "openai_compatible": 0, "triton": 0}
        assert len(engine.heard) == 3 * most.get(engine.spoken.family, 1)
        assert engine.connections <= 1


class TestOurWorker(EngineSuite):
    """The real engine, with the real model."""

    @pytest.fixture
    async def at_hand(self, cpu_worker: CpuWorker, client: HttpClient) -> EngineAtHand:
        credentials = NamedCredentials({})
        family = FAMILIES["openvino"]
        return EngineAtHand(
            target=a_target(url=f"{cpu_worker.base_url}/v1", model=WORKERS_MODEL, kind="openvino", family=family),
            probe=HttpEngineProbe(client, credentials, SystemClock(), page_s=10),
            provider=OpenAiProvider(client, credentials),
            tells=frozenset(family.signals),
            context=8192,
            has_version=True,
            reports_cached=True,
            faults={case: KINDS[case] for case in (Case.TOO_LONG, Case.BAD, Case.NO_MODEL)},
        )


async def test_a_credential_goes_to_the_engine_and_not_to_another_port(client: HttpClient) -> None:
    family = replace(FAMILIES["triton"], health="/v2/health/ready")
    async with ScriptedUpstream() as engine, ScriptedUpstream() as figures:
        engine.always(refusal(404))
        figures.always(refusal(404))
        port = figures.url.rpartition(":")[2].removesuffix("/v1")
        target = a_target(url=engine.url, credential="env:KEY", family=replace(family, metrics=f":{port}/metrics"))
        probe = HttpEngineProbe(client, NamedCredentials({"KEY": "sk-secret-1"}), SystemClock())
        reading = await probe.look(target)
    assert {heard.headers.get("authorization") for heard in engine.heard} == {"Bearer sk-secret-1"}
    assert [heard.headers.get("authorization") for heard in figures.heard] == [None]
    assert "sk-secret" not in repr(reading)


async def test_an_engine_that_hangs_costs_a_look_its_time_and_no_more(client: HttpClient) -> None:
    async with ScriptedUpstream() as engine:
        engine.always([Hang()])
        probe = HttpEngineProbe(client, NamedCredentials({}), SystemClock(), page_s=0.2)
        reading = await probe.look(a_target(url=engine.url, family=FAMILIES["vllm"]))
        assert reading.signals.numbers == {}
        assert any("does not answer within 0.2 s" in fault for fault in reading.faults)


async def test_a_page_without_end_is_given_up_and_its_signals_are_missing(client: HttpClient) -> None:
    line = b"vllm:num_requests_running 1\n"
    async with ScriptedUpstream() as engine:
        endless = [head(headers=(("content-type", "text/plain"),)), Send(raw=line + b"#" * 5_000_000)]
        engine.always(endless)
        probe = HttpEngineProbe(client, NamedCredentials({}), SystemClock(), page_s=10)
        signals = await probe.signals(a_target(url=engine.url, family=FAMILIES["vllm"]))
        assert SignalName.RUNNING in signals.missing
        assert any("/metrics has more than" in fault for fault in signals.faults)


async def test_a_list_of_models_that_is_none_is_no_list(client: HttpClient) -> None:
    for body in (b"[]", b'{"data": 5}', b'{"data": [1, {"id": 7}, {}]}', b"<html>", b'{"data": null}'):
        async with ScriptedUpstream() as engine:
            kind = (("content-type", "application/json"), ("content-length", str(len(body))))
            engine.always([head(headers=kind), Send(raw=body)])
            probe = HttpEngineProbe(client, NamedCredentials({}), SystemClock())
            reading = await probe.look(a_target(url=engine.url, family=FAMILIES["openai_compatible"]))
            assert reading.models == ()
