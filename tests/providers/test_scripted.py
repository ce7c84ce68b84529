"""The scripted provider keeps its script, its clock and its oracle; the rest is in `tests/ports/provider_suite.py`."""

from __future__ import annotations

import msgspec
import pytest

from app.domain.errors import FaultKind, TargetFailure
from app.domain.routing.facts import Endpoint
from app.domain.routing.policy import Timeouts
from app.domain.usage import Usage
from app.ports import UpstreamCall
from app.providers.scripted import Script, ScriptedProvider
from tests.makers import a_target


class Slept:
    """A sleep that takes no time and remembers."""

    def __init__(self) -> None:
        self.pauses_s: list[float] = []

    async def __call__(self, pause_s: float) -> None:
        self.pauses_s.append(pause_s)


def a_call(*, stream: bool = True, target: str = "home", endpoint: Endpoint = Endpoint.CHAT) -> UpstreamCall:
    return UpstreamCall(
        attempt_id="r/1",
        target=a_target(target),
        endpoint=endpoint,
        fields={},
        stream=stream,
        usage_wanted=False,
        timeouts=Timeouts(first_token_s=5, idle_s=5),
    )


async def test_pauses_are_the_scripts_and_take_the_time_they_are_given() -> None:
    slept = Slept()
    provider = ScriptedProvider({"home": [Script(words=("a", "b", "c"), first_s=2, between_s=0.5)]}, sleep=slept)
    answer = await provider.open(a_call())
    assert [piece.last async for piece in answer.pieces()][-1]
    assert slept.pauses_s == [2, 0.5, 0.5]


async def test_a_script_slower_than_the_calls_patience_costs_only_that() -> None:
    slept = Slept()
    provider = ScriptedProvider({"home": [Script(first_s=3600)]}, sleep=slept)
    with pytest.raises(TargetFailure) as caught:
        await provider.open(a_call())
    assert caught.value.kind is FaultKind.FIRST_TOKEN_TIMEOUT
    assert slept.pauses_s == [5]


async def test_each_target_plays_its_own_scripts_in_order_and_repeats_the_last() -> None:
    provider = ScriptedProvider(
        {"home": [Script(fault=FaultKind.OVERLOADED), Script(words=("x",))], "away": [Script(words=("y", "y"))]},
        sleep=Slept(),
    )
    with pytest.raises(TargetFailure):
        await provider.open(a_call())
    for target in ("home", "home", "away"):
        answer = await provider.open(a_call(stream=False, target=target))
        await answer.body()
        await answer.close()
    assert [(deed.target, deed.output_tokens) for deed in provider.deeds] == [
        ("home", 0),
        ("home", 1),
        ("home", 1),
        ("away", 2),
    ]
    assert len(provider.calls) == 4


async def test_the_oracle_bills_what_was_made_and_nothing_for_a_refusal() -> None:
    scripts = [Script(words=("a", "b", "c")), Script(fault=FaultKind.OVERLOADED), Script(fault=FaultKind.CUT)]
    provider = ScriptedProvider({"home": scripts}, sleep=Slept())
    answer = await provider.open(a_call())
    await anext(answer.pieces())
    await answer.close()
    for _ in range(2):
        with pytest.raises(TargetFailure):
            await provider.open(a_call())
    left, refused, cut = provider.deeds
    assert (left.billed, left.hung_up) == (Usage(prompt=11, output=1), True)
    assert (refused.billed, cut.billed) == (None, Usage(prompt=11, output=0))


async def test_a_completion_is_spelled_as_one() -> None:
    provider = ScriptedProvider({"home": [Script(words=("a", "b"))]}, sleep=Slept())
    body, _ = await (await provider.open(a_call(stream=False, endpoint=Endpoint.COMPLETIONS))).body()
    assert msgspec.json.decode(body)["choices"][0]["text"] == "ab"
    answer = await provider.open(a_call(endpoint=Endpoint.COMPLETIONS))
    assert b'"text":"a"' in b"".join([piece.raw async for piece in answer.pieces()])


async def test_the_same_script_gives_the_same_bytes() -> None:
    async def played() -> bytes:
        provider = ScriptedProvider({"home": [Script()]}, sleep=Slept())
        return b"".join([piece.raw async for piece in (await provider.open(a_call())).pieces()])

    assert await played() == await played()


async def test_an_answer_of_one_kind_refuses_to_be_read_as_the_other() -> None:
    provider = ScriptedProvider({"home": [Script()]}, sleep=Slept())
    with pytest.raises(RuntimeError):
        await (await provider.open(a_call())).body()
    with pytest.raises(RuntimeError):
        (await provider.open(a_call(stream=False))).pieces()
