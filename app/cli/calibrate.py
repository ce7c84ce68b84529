"""`breakeven calibrate`: how fast a self-hosted target is."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.bootstrap import measure_target, read_policy
from app.cli.output import AsJson, note, write_json
from app.domain.errors import SetupError
from app.domain.pricing.self_host import MeasuredRates
from app.domain.target import Hosting
from app.settings import Settings, read_settings

app = typer.Typer(add_completion=False)


@app.command(help="Measure how fast a self-hosted target is, and so what its tokens cost.")
def calibrate(
    target: Annotated[str | None, typer.Argument(help="Its name in the policy; without one: all of them.")] = None,
    json: AsJson = False,
) -> None:
    settings = read_settings()
    rates = [
        asyncio.run(measure_target(settings, target=name, progress=note))
        for name in ([target] if target is not None else _homes(settings))
    ]
    if json:
        write_json([rates_view(each) for each in rates])
        return
    for each in rates:
        print(told(each))


def told(rates: MeasuredRates) -> str:
    """The measurement in one line."""
    return (
        f"{rates.target}: prefill {rates.prefill_tokens_per_s:f} tokens/s, decode {rates.decode_tokens_per_s:f} "
        f"tokens/s, {rates.concurrency} requests at once, {rates.model} on {rates.engine_version}"
    )


def rates_view(rates: MeasuredRates) -> dict[str, object]:
    """The measurement as plain values; rates are exact decimal strings."""
    return {
        "target": rates.target,
        "model": rates.model,
        "engine_version": rates.engine_version,
        "prefill_tokens_per_s": f"{rates.prefill_tokens_per_s:f}",
        "decode_tokens_per_s": f"{rates.decode_tokens_per_s:f}",
        "concurrency": rates.concurrency,
        "measured_at_s": rates.measured_at_s,
    }


def _homes(settings: Settings) -> list[str]:
    targets = read_policy(settings).policy.targets.values()
    names = [each.name for each in targets if each.hosting is Hosting.SELF_HOSTED]
    if not names:
        raise SetupError("the policy has no self-hosted target: there is nothing to measure")
    return names
