"""`breakeven doctor` (`app.cli.doctor`) on an engine that runs: a table for people, a document for programs."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.doctor import heading, signal_lines
from app.domain.capacity.learned import LearnedCurve
from app.domain.diagnosis import diagnosed
from app.domain.engine import EngineReading, Health
from app.domain.signals import Absent, EngineSignals, SignalName
from app.storage.curve_book import PostgresCurveBook
from app.storage.engine import Database
from tests.command_line import HereAtOnce
from tests.engines.server import CONTEXT, MODEL, FakeEngine
from tests.engines.spoken import SPOKEN
from tests.makers import a_target
from tests.ports.curve_book_suite import learned
from tests.upstream import unreachable_url

POLICY = """\
targets:
  gpu-a:
    hosting: self_hosted
    engine: {engine}
    url: {url}
    model: {model}
    can: [chat]
    context_tokens: {context}
    limits: {{in_flight: 8}}
    machine: {{type: h100, count: 1}}
models:
  chat:
    rules: [{{name: the only one, use: [gpu-a]}}]
rates:
  machines: {{h100: {{usd_per_hour: 2}}}}
"""
MANAGED = """\
  hosted: {provider: openai, hosting: managed, model: gpt-5-mini, can: [chat], credential: "env:OPENAI_API_KEY"}
"""
MANAGED_PRICE = "  targets: {hosted: {usd_per_million_tokens: {prompt: 1, cached_prompt: 1, completion: 1}}}\n"


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """A vLLM in a loop of its own, as the command runs one too."""
    loop, fake = asyncio.new_event_loop(), FakeEngine(SPOKEN["vllm"])
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(fake.__aenter__(), loop).result(10)
    yield fake
    asyncio.run_coroutine_threadsafe(fake.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def desk(
    tmp_path: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> HereAtOnce:
    """No database is asked for: that of the url does not exist."""
    policies = tmp_path / "policies"
    policies.mkdir()
    text = POLICY.format(engine="vllm", url=engine.url, model=MODEL, context=CONTEXT)
    (policies / "policy.yaml").write_text(text)
    url = "postgresql://nobody@127.0.0.1:1/none"
    at_hand = HereAtOnce(url=url, data=tmp_path / "data", monkeypatch=monkeypatch, capsys=capsys)
    monkeypatch.setenv("BREAKEVEN_POLICIES", str(policies))
    return at_hand


def test_an_engine_as_it_should_be_ends_with_0_and_a_table(desk: HereAtOnce) -> None:
    ran = desk("doctor")
    assert ran.status == 0, ran.err
    assert "gpu-a: vllm at http://127.0.0.1:" in ran.out
    assert "nothing must be done" in ran.out
    assert "vLLM 0.33.0" in ran.out
    assert "  running              7\n" in ran.out
    assert "not told by engines of this family: slots" in ran.out
    assert "gpu-a: sending one small chat" in ran.err


def test_a_target_that_does_not_answer_is_one_row(desk: HereAtOnce, engine: FakeEngine, tmp_path: Path) -> None:
    policies = tmp_path / "policies" / "policy.yaml"
    policies.write_text(policies.read_text().replace(engine.url, unreachable_url()))
    ran = desk("doctor")
    assert ran.status == 1
    heading_line, head, row = ran.out.strip().splitlines()
    assert heading_line.endswith("1 thing must be done")
    assert head.split()[0] == "check"
    assert row.split()[:2] == ["act", "reachable"]
    assert "it does not answer: " in row
    assert "Start it, or correct `url` of gpu-a in the policy." in row


def test_managed_targets_are_said_to_be_left_out(desk: HereAtOnce, tmp_path: Path) -> None:
    policies = tmp_path / "policies" / "policy.yaml"
    text = policies.read_text().replace("models:\n", MANAGED + "models:\n", 1)
    policies.write_text(text.replace("rates:\n", "rates:\n" + MANAGED_PRICE, 1))
    ran = desk("doctor", "--no-request")
    assert ran.status == 0, ran.out + ran.err
    assert "managed targets are not examined: hosted" in ran.err.splitlines()
    assert "not examined" not in desk("doctor", "gpu-a", "--no-request").err
    asked = desk("doctor", "hosted")
    assert (asked.status, asked.err.count("\n")) == (1, 1)
    assert "a managed one, which is not examined" in asked.err


def test_a_flag_that_is_missing_ends_with_1_and_its_name(desk: HereAtOnce, engine: FakeEngine) -> None:
    engine.fresh = False
    ran = desk("doctor", "gpu-a")
    assert ran.status == 1
    assert "2 things must be done" in ran.out
    assert "--enable-prompt-tokens-details" in ran.out
    assert "  running              missing: its page of figures does not have it\n" in ran.out


def test_programs_get_one_document(desk: HereAtOnce, engine: FakeEngine) -> None:
    engine.fresh = False
    (found,) = desk("doctor", "--json").value
    assert (found["target"], found["must_act"], found["health"], found["version"]) == ("gpu-a", True, "ready", "0.33.0")
    assert found["signals"]["running"] == {"missing": "its page of figures does not have it"}
    assert found["models"] == [{"name": MODEL, "context_tokens": CONTEXT}]
    acts = {check["check"] for check in found["checks"] if check["grade"] == "act"}
    assert acts == {"load", "cached tokens"}


def test_no_request_sends_none(desk: HereAtOnce, engine: FakeEngine) -> None:
    ran = desk("doctor", "--no-request", "--json")
    assert ran.status == 0
    assert {heard.method for heard in engine.heard} == {"GET"}
    assert "sending" not in ran.err


def test_a_target_that_is_not_there_is_one_sentence(desk: HereAtOnce) -> None:
    ran = desk("doctor", "gpu-b")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == 'breakeven: "gpu-b" is not a self-hosted target of the policy; those are: gpu-a\n'


def test_a_zero_is_shown_as_a_zero_and_what_is_missing_is_not() -> None:
    signals = EngineSignals(at_s=0, numbers={SignalName.WAITING: 0.0}, missing={SignalName.RUNNING: Absent.NO_NUMBER})
    read = EngineReading(at_s=0, health=Health.READY, signals=signals)
    lines = list(signal_lines(read))
    assert "  waiting              0" in lines
    assert "  running              missing: what stands there is no number" in lines
    away = diagnosed(a_target(), EngineReading(at_s=0, health=Health.AWAY, signals=signals), None)
    assert heading(away).endswith("1 thing must be done")
    assert list(signal_lines(away.reading)) == []
    tiny = EngineSignals(at_s=0, numbers={SignalName.TTFT_SUM_S: 6e-05}, missing={})
    assert "  ttft_sum_s           0.00006" in signal_lines(EngineReading(at_s=0, health=Health.READY, signals=tiny))


def test_what_gateways_have_learned_is_told_where_the_books_are_there(
    desk: HereAtOnce, engine: FakeEngine, books_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "learned              nothing is kept" in desk("doctor", "--no-request").out
    monkeypatch.setenv("DATABASE_URL", books_url)
    assert "learned              nothing is kept" in desk("doctor", "--no-request").out
    curve = learned("gpu-a", answers=20, url=engine.url, model=MODEL)
    asyncio.run(_keep(books_url, curve))
    (line,) = [line for line in desk("doctor", "--no-request").out.splitlines() if "learned " in line]
    assert re.search(r"a step of n takes \S+ \+ 3\.333 n ms; .* from about 18 answers, kept \d+ seconds ago", line), (
        line
    )
    (found,) = desk("doctor", "--no-request", "--json").value
    assert found["learned"]["step_per_sequence_ms"] == pytest.approx(10 / 3)
    asyncio.run(_keep(books_url, learned("gpu-a", url="http://10.9.9.9/v1", model=MODEL)))
    (found,) = desk("doctor", "--no-request", "--json").value
    assert found["learned"] is None


async def _keep(url: str, curve: LearnedCurve) -> None:
    async with Database(url) as database:
        await PostgresCurveBook(database).keep([curve])
