"""The real vLLM behind the port of engines, and our fake of it held to what it says."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from app.domain.signals import SignalName
from app.providers.credentials import NamedCredentials
from app.providers.engine_probe import HttpEngineProbe
from app.providers.engines.families import FAMILIES
from app.providers.exchange import HttpClient
from app.providers.http import http_client
from app.providers.openai_native import OpenAiProvider
from app.system import SystemClock
from tests.engines.pages import VLLM
from tests.engines.server import KINDS, MODEL, TOO_LONG, Case, FakeEngine
from tests.engines.spoken import SPOKEN
from tests.engines.suite import PROMPT, EngineAtHand, EngineSuite
from tests.makers import a_target
from tests.vllm.process import CONTEXT, QUEUED, SEQS, RealVllm
from tests.worker_process import CpuWorker

#: Every signal but that of slots, which vLLM does not tell.
FAMILY = FAMILIES["vllm"]


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = http_client()
    yield client
    await client.close()


@pytest.fixture
def crowd(vllm: RealVllm) -> Iterator[list[Any]]:
    """Crowds that a test brought in; they leave at its end."""
    brought: list[Any] = []
    yield brought
    for each in brought:
        each.__exit__(None, None, None)


class TestRealVllm(EngineSuite):
    """The suite that every fake passes."""

    @pytest.fixture
    async def at_hand(self, vllm: RealVllm, client: HttpClient, crowd: list[Any]) -> EngineAtHand:
        def become(case: Case) -> None:
            if case is Case.FULL:
                crowd.append(vllm.crowded())
                crowd[-1].__enter__()

        return EngineAtHand(
            target=a_target(url=f"{vllm.base_url}/v1", model=vllm.model, kind="vllm", family=FAMILY),
            probe=HttpEngineProbe(client, NamedCredentials({}), SystemClock(), page_s=10),
            provider=OpenAiProvider(client, NamedCredentials({})),
            tells=frozenset(FAMILY.signals),
            context=CONTEXT,
            has_version=True,
            reports_cached=True,
            faults={case: KINDS[case] for case in (Case.TOO_LONG, Case.BAD, Case.NO_MODEL, Case.FULL)},
            become=become,
        )

    async def test_its_load_is_what_it_was_given(self, at_hand: EngineAtHand, vllm: RealVllm) -> None:
        before = await at_hand.probe.signals(at_hand.target)
        assert (before.numbers[SignalName.RUNNING], before.numbers[SignalName.WAITING]) == (0, 0)
        with vllm.crowded():
            seen = (await at_hand.probe.signals(at_hand.target)).numbers
            assert (seen[SignalName.RUNNING], seen[SignalName.WAITING]) == (SEQS, QUEUED - SEQS)
            assert 0 < seen[SignalName.KV_USAGE] < 1
            status, _ = vllm.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})
            assert status == 503
        after = (await at_hand.probe.signals(at_hand.target)).numbers
        assert (after[SignalName.RUNNING], after[SignalName.WAITING], after[SignalName.KV_USAGE]) == (0, 0, 0)
        assert after[SignalName.REJECTIONS] == before.numbers[SignalName.REJECTIONS] + 1
        assert after[SignalName.GENERATION_TOKENS] > before.numbers[SignalName.GENERATION_TOKENS]

    async def test_its_own_id_of_a_request_is_ours(self, vllm: RealVllm) -> None:
        ask = {"model": vllm.model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        headers = {"x-request-id": "019ab000-0000-7000-8000-000000000001/1"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{vllm.base_url}/v1/chat/completions", json=ask, headers=headers) as answer,
        ):
            assert answer.headers["x-request-id"] == headers["x-request-id"]
            assert (await answer.json())["id"] == f"chatcmpl-{headers['x-request-id']}"


def test_more_choices_than_its_queue_holds_are_refused_as_if_it_were_busy(vllm: RealVllm) -> None:
    """It counts choices. An idle engine says so too, and for ever: another target may have a longer queue."""
    status, body = vllm.post("/v1/completions", {"prompt": "One", "max_tokens": 1, "n": QUEUED + 1})
    assert (status, b"currently busy" in body) == (503, True)


def test_a_priority_is_taken_and_changes_nothing_without_its_scheduler(vllm: RealVllm) -> None:
    status, body = vllm.post("/v1/completions", {"prompt": "One", "max_tokens": 1, "priority": 5})
    assert (status, json.loads(body)["usage"]["completion_tokens"]) == (200, 1)


# ── the fake is as the real one ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def fake() -> AsyncIterator[FakeEngine]:
    async with FakeEngine(SPOKEN["vllm"]) as engine:
        yield engine


async def said(url: str, named: str, **fields: object) -> tuple[int, bytes]:
    ask = {"model": named, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 8, **fields}
    sent = {name: field for name, field in ask.items() if field is not None}
    async with aiohttp.ClientSession() as session, session.post(f"{url}/v1/chat/completions", json=sent) as answer:
        return answer.status, await answer.read()


async def both(vllm: RealVllm, fake: FakeEngine, **fields: object) -> tuple[tuple[int, bytes], tuple[int, bytes]]:
    """What the real one and the fake say to the same."""
    real = await said(vllm.base_url, vllm.model, **fields)
    return real, await said(fake.url.removesuffix("/v1"), MODEL, **fields)


def shape(value: object) -> object:
    """The members and the kinds of what they hold; numbers are numbers."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in value.items()}
    if isinstance(value, list):
        return [shape(member) for member in value]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def shapes_of_stream(raw: bytes) -> list[object]:
    """Of each event, one after another; of equal ones in a row the first."""
    shapes: list[object] = []
    for line in raw.decode().splitlines():
        if line.startswith("data: {"):
            found = shape(json.loads(line.removeprefix("data: ")))
            if not shapes or shapes[-1] != found:
                shapes.append(found)
    return shapes


#: Two words, and then the model's own end: token 2 is `<|im_end|>`.
ENDS_ITSELF: dict[str, object] = {"logit_bias": {"2": 100}, "min_tokens": 2, "temperature": 0}

#: A busy one joins words that come quicker than they are sent, its end with them: then it is asked again.
STREAMS_MOST = 5


async def test_the_fakes_whole_answer_has_the_members_of_the_real_one(vllm: RealVllm, fake: FakeEngine) -> None:
    await said(vllm.base_url, vllm.model)  # the prompt is cached from here on
    (status, real), (of_fake, faked) = await both(vllm, fake)
    assert status == of_fake == 200
    assert list(shapes(faked)) == list(shapes(real))
    assert shape(json.loads(faked)) == shape(json.loads(real))


def shapes(raw: bytes) -> Iterator[str]:
    """The members in their order."""
    yield from json.loads(raw)


async def test_the_fakes_stream_has_the_events_of_the_real_one(vllm: RealVllm, fake: FakeEngine) -> None:
    await said(vllm.base_url, vllm.model)
    for options in ({"stream_options": {"include_usage": True}}, {}):
        for _ in range(STREAMS_MOST):
            (_, real), (_, faked) = await both(vllm, fake, stream=True, **options, **ENDS_ITSELF)
            if shapes_of_stream(faked) == shapes_of_stream(real):
                break
        assert shapes_of_stream(faked) == shapes_of_stream(real)
        assert real.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("case", [Case.TOO_LONG, Case.BAD, Case.NO_MODEL, Case.FULL])
async def test_the_fake_says_no_as_the_real_one_does(vllm: RealVllm, fake: FakeEngine, case: Case) -> None:
    fields: dict[str, object] = {}
    if case is Case.TOO_LONG:
        fields = {"messages": [{"role": "user", "content": "word " * TOO_LONG}]}
    elif case is Case.BAD:
        fields = {"messages": None}
    elif case is Case.NO_MODEL:
        fields = {"model": "nope"}
    if case is Case.FULL:
        fake.full = True
        with vllm.crowded():
            (status, real), (of_fake, faked) = await both(vllm, fake)
    else:
        (status, real), (of_fake, faked) = await both(vllm, fake, **fields)
    assert status == of_fake
    assert without_numbers(faked.replace(MODEL.encode(), vllm.model.encode())) == without_numbers(real)


def without_numbers(raw: bytes) -> str:
    said = json.loads(raw)
    said["error"]["message"] = re.sub(r"\d+", "N", said["error"]["message"])
    return json.dumps(said, sort_keys=True)


def test_each_series_of_the_fakes_page_is_on_the_real_one(vllm: RealVllm) -> None:
    real = series(vllm.get("/metrics").decode())
    missing = [
        (name, labels)
        for name, labels in series(VLLM)
        if not any(name == theirs and labels <= of_theirs for theirs, of_theirs in real)
    ]
    assert not missing
    # What the makers' older releases had is gone, and stays in the family's table for those alone.
    names = {name for name, _ in real}
    assert not names & {"vllm:gpu_cache_usage_perc", "vllm:time_per_output_token_seconds_sum"}


def series(page: str) -> set[tuple[str, frozenset[str]]]:
    """Names and labels, `name="value"` where the value is one of a few words."""
    found = set()
    for line in page.splitlines():
        if not line.startswith("vllm:"):
            continue
        name, _, rest = line.partition("{")
        labels = re.findall(r'(\w+)="([^"]*)"', rest.rpartition("}")[0])
        kept = {f'{label}="{value}"' if label == "reason" else label for label, value in labels if label != "le"}
        found.add((name.partition(" ")[0], frozenset(kept)))
    return found


# ── the model is the same one ────────────────────────────────────────────────────────────────────────────────────────

HARD = (
    "The capital of France is",
    "  two spaces, a\ttab\nand\r\n lines ",
    "Grüße, naïve café, 東京 ☃ 🇫🇷 e\u0301",
    "def f(x: int) -> int:\n    return x**2 + 1234567890",
    "3.14159 12,345 0x1F 2026-11-28",
    "<|im_start|>user\nhi<|im_end|>",
    "don't we'll I'M it's",
)


@pytest.mark.parametrize("text", HARD)
def test_texts_are_the_same_tokens_in_both_engines(vllm: RealVllm, cpu_worker: CpuWorker, text: str) -> None:
    ask = {"prompt": text, "add_special_tokens": False}
    ours = RealVllm(base_url=cpu_worker.base_url, log=cpu_worker.log)
    of_vllm, of_ours = (json.loads(engine.post("/tokenize", ask)[1]) for engine in (vllm, ours))
    assert of_vllm["tokens"] == of_ours["tokens"] != []


def test_both_engines_go_on_alike(vllm: RealVllm, cpu_worker: CpuWorker) -> None:
    ask = {"prompt": "The capital of France is", "max_tokens": 5, "temperature": 0}
    ours = RealVllm(base_url=cpu_worker.base_url, log=cpu_worker.log)
    texts = [json.loads(engine.post("/v1/completions", ask)[1])["choices"][0]["text"] for engine in (vllm, ours)]
    assert texts[0] == texts[1]
    assert texts[0].startswith(" Paris")
