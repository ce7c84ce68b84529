"""What people write about prices and speeds. Prices are decimals, exactly as written."""

from __future__ import annotations

from app.documents.words import TokensPerSecond, UsdPerHour, UsdPerMillion, Written


class WrittenMachinePrice(Written):
    """An entry of `rates.machines`."""

    usd_per_hour: UsdPerHour


class WrittenTokenPrices(Written):
    """`usd_per_million_tokens` of a managed target. Without a discount `cached_prompt` equals `prompt`."""

    prompt: UsdPerMillion
    cached_prompt: UsdPerMillion
    completion: UsdPerMillion


class WrittenSpeeds(Written):
    """`measured` of a self-hosted target: its speed at saturation, instead of a measurement when it starts."""

    prefill_tokens_per_s: TokensPerSecond
    decode_tokens_per_s: TokensPerSecond


class WrittenTargetRates(Written):
    """An entry of `rates.targets`: prices for a managed target, speeds for a self-hosted one."""

    usd_per_million_tokens: WrittenTokenPrices | None = None
    measured: WrittenSpeeds | None = None
