"""`app.flows.doctor`: over real sockets, with an engine that is started right and one that is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from app.domain.diagnosis import Diagnosis, Grade
from app.domain.errors import SetupError
from app.domain.target import Hosting, Target
from app.flows.doctor import examine, not_examined, patients
from app.providers.credentials import NamedCredentials
from app.providers.engine_probe import HttpEngineProbe
from app.providers.engines.families import FAMILIES
from app.providers.http import http_client
from app.system import SystemClock
from tests.engines.server import CONTEXT, MODEL, FakeEngine
from tests.engines.spoken import SPOKEN
from tests.makers import a_policy, a_target
from tests.upstream import unreachable_url


@pytest.fixture
async def probe() -> AsyncIterator[HttpEngineProbe]:
    client = http_client()
    yield HttpEngineProbe(client, NamedCredentials({}), SystemClock(), page_s=10)
    await client.close()


def target_of(engine: FakeEngine, **named: object) -> Target:
    family = FAMILIES[engine.spoken.family]
    values: dict[str, object] = {"context_tokens": CONTEXT, "in_flight_most": 8, **named}
    return a_target(url=engine.url, model=MODEL, kind=family.name, family=family, **values)


async def examined(*targets: Target, probe: HttpEngineProbe, with_request: bool = True) -> list[Diagnosis]:
    return await examine(
        targets, probe, has_credential=lambda name: True, with_request=with_request, progress=lambda said: None
    )


@pytest.mark.parametrize("family", sorted(set(SPOKEN) - {"triton"}))
async def test_an_engine_that_is_started_right_has_nothing_that_must_be_done(
    probe: HttpEngineProbe, family: str
) -> None:
    async with FakeEngine(SPOKEN[family]) as engine:
        (diagnosis,) = await examined(target_of(engine), probe=probe)
    assert [check for check in diagnosis.checks if check.grade is Grade.ACT] == []


@pytest.mark.parametrize(
    ("family", "flags"),
    [
        ("vllm", {"--disable-log-stats", "--enable-prompt-tokens-details", "--enable-request-id-headers"}),
        ("sglang", {"--enable-metrics", "--enable-cache-report"}),
        ("trtllm", {"return_perf_metrics"}),
        ("llamacpp", {"--metrics", "--slots"}),
        ("lmdeploy", {"--enable-metrics"}),
    ],
)
async def test_an_engine_without_its_flags_is_told_which_to_add(
    probe: HttpEngineProbe, family: str, flags: set[str]
) -> None:
    async with FakeEngine(SPOKEN[family]) as engine:
        engine.fresh = False
        (diagnosis,) = await examined(target_of(engine), probe=probe)
    advice = " ".join(check.advice for check in diagnosis.checks)
    assert {flag for flag in flags if flag not in advice} == set()
    assert diagnosis.must_act


async def test_another_engine_than_the_policy_says_is_found_out(probe: HttpEngineProbe) -> None:
    async with FakeEngine(SPOKEN["vllm"]) as engine:
        wrong = replace(target_of(engine), kind="sglang", family=FAMILIES["sglang"])
        (diagnosis,) = await examined(wrong, probe=probe)
    assert "Write `engine: vllm`" in " ".join(check.advice for check in diagnosis.checks)


async def test_all_targets_are_told_in_their_order_and_one_that_is_away_stops_none(probe: HttpEngineProbe) -> None:
    async with FakeEngine(SPOKEN["vllm"]) as engine:
        away = a_target("away", url=unreachable_url(), family=FAMILIES["vllm"])
        diagnoses = await examined(away, replace(target_of(engine), name="here"), probe=probe)
    assert [(each.target.name, each.must_act) for each in diagnoses] == [("away", True), ("here", False)]


async def test_without_a_request_none_is_sent(probe: HttpEngineProbe) -> None:
    async with FakeEngine(SPOKEN["vllm"]) as engine:
        await examined(target_of(engine), probe=probe, with_request=False)
        assert [heard.method for heard in engine.heard if heard.method != "GET"] == []


def test_only_self_hosted_targets_are_patients() -> None:
    hosted = a_target("hosted", hosting=Hosting.MANAGED)
    policy = a_policy(a_target("gpu"), hosted)
    assert [each.name for each in patients(policy, None)] == ["gpu"]
    assert [each.name for each in patients(policy, "gpu")] == ["gpu"]
    with pytest.raises(SetupError, match="managed one, which is not examined; those are: gpu"):
        patients(policy, "hosted")
    with pytest.raises(SetupError, match='"nobody" is not a self-hosted target of the policy; those are: gpu'):
        patients(policy, "nobody")
    with pytest.raises(SetupError, match=r"nothing to examine \(managed targets are not examined: hosted\)"):
        patients(a_policy(hosted), None)
    assert not_examined(policy) == "managed targets are not examined: hosted"
    assert not_examined(a_policy(a_target("gpu"))) == ""
