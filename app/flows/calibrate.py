"""How fast is a self-hosted target really? A short measurement that gives its tokens a price."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from app.domain.errors import SetupError, TargetFailure
from app.domain.pricing.self_host import MeasuredRates
from app.domain.routing.facts import Endpoint
from app.domain.routing.policy import Timeouts
from app.domain.target import Target
from app.domain.usage import NOTHING, Usage
from app.ports import Clock, Provider, UpstreamCall

#: Requests at once: enough to fill a batch, few enough for a small machine.
CONCURRENCY = 8
#: Words of a prefill prompt, about one and a half tokens each.
PREFILL_WORDS = 400
DECODE_TOKENS = 64
#: A rate is kept to a hundredth of a token per second.
_RATE_STEP = Decimal("0.01")
_TIMEOUTS = Timeouts(connect_s=5, first_token_s=120, idle_s=120, total_s=180)

_WORDS = ("amber", "brook", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "jetty", "knoll", "larch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """What a measurement works with. `seed` makes its prompts unlike any before, so that no prefix cache helps."""

    target: Target
    provider: Provider
    clock: Clock
    engine_version: str
    seed: str
    progress: Callable[[str], None]


async def calibrate(measuring: Measuring) -> MeasuredRates:
    """Measure prefill and decode at saturation: tokens per wall-clock second over `CONCURRENCY` requests at once.

    Prefill: long new prompts, one output token each. Decode: short prompts, `DECODE_TOKENS` output tokens each.
    Raises SetupError when the target does not answer, or does not report its usage.
    """
    measuring.progress(f"{measuring.target.name}: warming up")
    await _run(measuring, prompts=[f"{measuring.seed} warm up"], output_tokens=2)
    measuring.progress(
        f"{measuring.target.name}: measuring prefill with {CONCURRENCY} prompts of {PREFILL_WORDS} words"
    )
    prefill, prefill_s = await _run(measuring, prompts=_long_prompts(measuring.seed), output_tokens=1)
    measuring.progress(f"{measuring.target.name}: measuring decode, {CONCURRENCY} answers of {DECODE_TOKENS} tokens")
    short = [f"{measuring.seed} {place} tell me more about {word}" for place, word in enumerate(_WORDS[:CONCURRENCY])]
    decode, decode_s = await _run(measuring, prompts=short, output_tokens=DECODE_TOKENS)
    return MeasuredRates(
        target=measuring.target.name,
        prefill_tokens_per_s=_rate(tokens=prefill.computed_prompt, seconds=prefill_s),
        decode_tokens_per_s=_rate(tokens=decode.output, seconds=decode_s),
        model=measuring.target.model,
        engine_version=measuring.engine_version,
        measured_at_s=measuring.clock.unix_us() // 1_000_000,
        concurrency=CONCURRENCY,
    )


async def _run(measuring: Measuring, *, prompts: Sequence[str], output_tokens: int) -> tuple[Usage, float]:
    begun_s = measuring.clock.monotonic_s()
    fault: TargetFailure | TimeoutError | None = None
    try:
        async with asyncio.timeout(_TIMEOUTS.total_s), asyncio.TaskGroup() as group:
            asked = [group.create_task(_ask(measuring, prompt, output_tokens)) for prompt in prompts]
    except* (TargetFailure, TimeoutError) as faults:  # nothing is raised in here: some Pythons would wrap it
        fault = _first(faults)
    if fault is not None:
        raise SetupError(_cannot(measuring.target.name, fault, count=len(prompts))) from fault
    seconds = measuring.clock.monotonic_s() - begun_s
    usages = [usage for each in asked if (usage := each.result()) is not None]
    if len(usages) < len(asked):
        raise SetupError(
            f"{measuring.target.name} reports no usage, so it cannot be measured; give its rates in the policy under "
            "rates.targets"
        )
    total = Usage(
        prompt=sum(usage.prompt for usage in usages),
        cached=sum(usage.cached for usage in usages),
        output=sum(usage.output for usage in usages),
    )
    return total, seconds


def _first(faults: BaseExceptionGroup[TargetFailure | TimeoutError]) -> TargetFailure | TimeoutError:
    fault: BaseException = faults
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    assert isinstance(fault, TargetFailure | TimeoutError), "the group was split by these types"
    return fault


def _cannot(name: str, fault: TargetFailure | TimeoutError, *, count: int) -> str:
    if isinstance(fault, TargetFailure):
        return f"{name} cannot be measured: {fault}; start it, or give its rates in the policy under rates.targets"
    return (
        f"{name} took over {_TIMEOUTS.total_s:.0f} s for {count} small requests; give its rates in the policy under "
        "rates.targets"
    )


async def _ask(measuring: Measuring, prompt: str, output_tokens: int) -> Usage | None:
    target = measuring.target
    call = UpstreamCall(
        attempt_id=f"calibrate-{measuring.seed}",
        target=target,
        endpoint=Endpoint.COMPLETIONS,
        fields={
            "prompt": f'"{prompt}"'.encode(),
            "max_tokens": b"%d" % output_tokens,
            "temperature": b"0",
            "ignore_eos": b"true",
        },
        stream=False,
        usage_wanted=True,
        timeouts=_TIMEOUTS,
    )
    answer = await measuring.provider.open(call)
    try:
        _, usage = await answer.body()
    finally:
        await answer.close()
    return None if usage == NOTHING else usage


def _long_prompts(seed: str) -> list[str]:
    return [
        " ".join([seed, str(place), *(_WORDS[(place + word * word) % len(_WORDS)] for word in range(PREFILL_WORDS))])
        for place in range(CONCURRENCY)
    ]


def _rate(*, tokens: int, seconds: float) -> Decimal:
    return max(_RATE_STEP, (Decimal(tokens) / Decimal(str(seconds))).quantize(_RATE_STEP))
