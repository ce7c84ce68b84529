"""What every engine does behind a target of its family, a fake one and a real one: the same looks, words and faults."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pytest

from app.domain.engine import Health, Reports
from app.domain.errors import CALLERS_FAULT, FaultKind, TargetFailure
from app.domain.routing.facts import Endpoint
from app.domain.routing.policy import Timeouts
from app.domain.signals import Absent, Missing, SignalName
from app.domain.target import Target
from app.domain.usage import Usage
from app.ports import Provider, UpstreamCall
from app.ports.engines import EngineProbe
from tests.engines.server import Case
from tests.upstream import unreachable_url

PATIENT = Timeouts(connect_s=2, first_token_s=60, idle_s=30, total_s=90)
#: In words; every prompt is long enough for a block of a prefix cache.
PROMPT = "Count with me, slowly, from one to nine: " + "one two three four five six seven eight nine, " * 20
USABLE_FOR_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAtHand:
    """An engine, the target that leads to it, and what it has to say."""

    target: Target
    probe: EngineProbe
    provider: Provider
    #: Signals that it tells.
    tells: frozenset[SignalName]
    context: int | None
    has_version: bool
    reports_cached: bool
    #: What can be made to go wrong here, and what each is.
    faults: Mapping[Case, FaultKind]
    #: Make it so for the requests that follow.
    become: Callable[[Case], None] = lambda case: None
    too_long: str = "word " * 9_000


async def answered(
    at_hand: EngineAtHand, *, stream: bool, usage_wanted: bool = True, prompt: str = PROMPT, **fields: object
) -> tuple[str, Usage | None, bytes]:
    """The text of an answer, its usage, and its bytes."""
    said: dict[str, object] = {
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 6,
        "temperature": 0,
        "stream": stream,
        **({"stream_options": {"include_usage": True}} if stream and usage_wanted else {}),
        **fields,
    }
    call = UpstreamCall(
        attempt_id="019ab000-0000-7000-8000-000000000001/1",
        target=at_hand.target,
        endpoint=Endpoint.CHAT,
        fields={name: json.dumps(field).encode() for name, field in said.items() if field is not None},
        stream=stream,
        usage_wanted=usage_wanted,
        timeouts=PATIENT,
    )
    answer = await at_hand.provider.open(call)
    try:
        if not stream:
            body, usage = await answer.body()
            return json.loads(body)["choices"][0]["message"]["content"], usage, body
        pieces = [piece async for piece in answer.pieces()]
    finally:
        await answer.close()
    assert pieces[-1].last
    assert any(piece.finished for piece in pieces)
    raw = b"".join(piece.raw for piece in pieces)
    usages = [piece.usage for piece in pieces if piece.usage is not None]
    return _text(raw), usages[-1] if usages else None, raw


def _text(raw: bytes) -> str:
    """The contents of a stream, read by other eyes than the gateway's."""
    words = []
    for line in raw.decode().splitlines():
        said = line.removeprefix("data:").strip()
        if line.startswith("data:") and said != "[DONE]":
            words += [choice["delta"].get("content") or "" for choice in json.loads(said)["choices"]]
    return "".join(words)


class EngineSuite:
    """Inherit, and give a fixture `at_hand`."""

    async def test_a_look_finds_it_ready_with_its_model_and_its_family(self, at_hand: EngineAtHand) -> None:
        reading = await at_hand.probe.look(at_hand.target)
        assert reading.health is Health.READY, reading.faults
        assert (reading.version is not None) == at_hand.has_version
        model = reading.model(at_hand.target.model)
        assert model is not None, reading
        assert model.context_tokens == at_hand.context
        family = at_hand.target.family
        assert family is not None
        if family.marks.metrics or family.marks.owned_by:
            assert family.name in reading.looks_like
        assert {name for name in SignalName if name in reading.signals.numbers} == at_hand.tells

    async def test_its_load_is_read_and_what_it_does_not_tell_is_missing(self, at_hand: EngineAtHand) -> None:
        signals = await at_hand.probe.signals(at_hand.target)
        assert set(signals.numbers) == at_hand.tells, signals.faults
        assert all(math.isfinite(number) and number >= 0 for number in signals.numbers.values())
        assert signals.broken_lines == 0
        assert set(signals.missing) == set(SignalName) - at_hand.tells
        for name in signals.missing:
            assert isinstance(signals.signal(name, at_s=signals.at_s, usable_for_s=USABLE_FOR_S), Missing)

    async def test_a_stream_says_what_a_whole_answer_says(self, at_hand: EngineAtHand) -> None:
        whole, of_whole, _ = await answered(at_hand, stream=False)
        streamed, of_stream, _ = await answered(at_hand, stream=True)
        assert streamed == whole != ""
        assert of_whole is not None
        assert of_stream is not None
        assert (of_stream.prompt, of_stream.output) == (of_whole.prompt, of_whole.output)

    async def test_usage_is_read_and_hidden_where_only_we_asked_for_it(self, at_hand: EngineAtHand) -> None:
        text, usage, raw = await answered(at_hand, stream=True, usage_wanted=False)
        asked, _, shown = await answered(at_hand, stream=True)
        assert usage is not None
        assert b'"usage":{' not in raw.replace(b" ", b"")
        assert b'"usage":{' in shown.replace(b" ", b"")
        assert text == asked

    async def test_cached_prompt_tokens_are_read_where_they_are_told(self, at_hand: EngineAtHand) -> None:
        await answered(at_hand, stream=False)
        _, whole, _ = await answered(at_hand, stream=False)
        _, streamed, _ = await answered(at_hand, stream=True)
        assert whole is not None
        assert streamed is not None
        assert ((whole.cached > 0), (streamed.cached > 0)) == (at_hand.reports_cached,) * 2
        assert whole.believable() == (whole, ())

    async def test_a_trial_shows_what_it_reports(self, at_hand: EngineAtHand) -> None:
        trial = await at_hand.probe.try_out(at_hand.target)
        assert trial.failure is None
        assert trial.usage
        assert trial.cached_tokens == at_hand.reports_cached
        assert at_hand.target.family is not None
        if at_hand.target.family.cached_tokens is Reports.NEVER:
            assert not trial.cached_tokens

    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
    @pytest.mark.parametrize("case", Case)
    async def test_what_goes_wrong_is_what_it_is(self, at_hand: EngineAtHand, case: Case, *, stream: bool) -> None:
        kind = at_hand.faults.get(case)
        if kind is None:
            pytest.skip("this engine does not say so, or cannot be made to")
        at_hand.become(case)
        asked: dict[str, object] = {}
        of = at_hand
        if case is Case.TOO_LONG:
            asked = {"prompt": at_hand.too_long}
        elif case is Case.BAD:
            asked = {"messages": None}
        elif case is Case.NO_MODEL:
            of = replace(at_hand, target=replace(at_hand.target, model="nope"))
        with pytest.raises(TargetFailure) as caught:
            await answered(of, stream=stream, **asked)  # type: ignore[arg-type]
        assert caught.value.kind is kind, caught.value
        larger = kind is FaultKind.CONTEXT_OVERFLOW
        assert caught.value.another_may_serve == (larger or kind not in CALLERS_FAULT)

    async def test_where_nobody_answers_everything_is_missing_and_nothing_is_raised(
        self, at_hand: EngineAtHand
    ) -> None:
        family = at_hand.target.family
        assert family is not None
        # Figures at another port would still be there.
        family = replace(family, metrics=family.metrics and "/metrics")
        away = replace(at_hand.target, url=unreachable_url(), family=family)
        reading = await at_hand.probe.look(away)
        assert reading.health is Health.AWAY
        assert (reading.models, reading.version, reading.signals.numbers) == ((), None, {})
        assert set(reading.signals.missing.values()) <= {Absent.UNREADABLE, Absent.NOT_OFFERED}
        assert reading.faults
        trial = await at_hand.probe.try_out(away)
        assert trial.fault is FaultKind.REFUSED_CONNECTION
