from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from app.domain.errors import FaultKind, SetupError
from app.flows.calibrate import CONCURRENCY, Measuring, calibrate
from app.providers.scripted import Script, ScriptedProvider
from app.system import SystemClock
from tests.makers import a_target


def _measuring(script: Script, progress: Callable[[str], None] = lambda said: None) -> Measuring:
    return Measuring(
        target=a_target(),
        provider=ScriptedProvider({"home": [script]}, sleep=asyncio.sleep),
        clock=SystemClock(),
        engine_version="vllm 0.33.0",
        seed="seed",
        progress=progress,
    )


async def test_a_measurement_counts_tokens_over_the_time_they_took() -> None:
    said: list[str] = []
    rates = await calibrate(_measuring(Script(words=("w",) * 64, prompt_tokens=600, first_s=0.1), said.append))
    assert (rates.model, rates.engine_version, rates.concurrency) == ("smollm2", "vllm 0.33.0", CONCURRENCY)
    # 8 × 600 prompt tokens, or 8 × 64 output tokens, in a little over 0.1 s.
    assert 1_000 < rates.prefill_tokens_per_s <= 48_000
    assert 100 < rates.decode_tokens_per_s <= 5_120
    assert len(said) == 3


async def test_cached_prompt_tokens_are_no_sign_of_speed() -> None:
    rates = await calibrate(_measuring(Script(prompt_tokens=600, cached_tokens=599, first_s=0.1)))
    assert rates.prefill_tokens_per_s <= 80


@pytest.mark.parametrize("script", [Script(fault=FaultKind.REFUSED_CONNECTION), Script(reports_usage=False)])
async def test_a_target_that_cannot_be_measured_says_what_to_do(script: Script) -> None:
    with pytest.raises(SetupError, match=r"rates\.targets|in the policy"):
        await calibrate(_measuring(script))
