"""What people write about prices and speeds. Prices are decimals, exactly as written."""

from __future__ import annotations

from decimal import Decimal

from pydantic import Field

from app.documents.words import (
    MarginalUsdPerHour,
    TargetName,
    TokensPerSecond,
    UsdPerHour,
    UsdPerMillion,
    Written,
)


class WrittenMachinePrice(Written):
    """An entry of `rates.machines`."""

    usd_per_hour: UsdPerHour = Field(
        description="US dollars an hour of one machine; a target's `count` multiplies it.", examples=[2.5]
    )
    marginal_usd_per_hour: MarginalUsdPerHour = Field(
        default=Decimal(0),
        description=(
            "Of that, what the machine costs only while it works (energy, or all of it where machines are rented by "
            "the need). Routing compares by it; receipts charge the whole. Left out: 0, the machine is paid for anyway."
        ),
        examples=[0, 0.4],
    )


class WrittenTokenPrices(Written):
    """`usd_per_million_tokens` of a managed target. Without a discount `cached_prompt` equals `prompt`."""

    prompt: UsdPerMillion = Field(description="US dollars for a million prompt tokens.", examples=[0.25])
    cached_prompt: UsdPerMillion = Field(
        description="The same for prompt tokens out of the seller's cache; without a discount as `prompt`.",
        examples=[0.025],
    )
    completion: UsdPerMillion = Field(description="US dollars for a million output tokens.", examples=[2.0])


class WrittenSpeeds(Written):
    """`measured` of a self-hosted target: its speed at saturation, instead of a measurement when it starts."""

    prefill_tokens_per_s: TokensPerSecond = Field(
        description="Prompt tokens a second, with many requests at once.", examples=[9000]
    )
    decode_tokens_per_s: TokensPerSecond = Field(
        description="Output tokens a second, all requests together, with many at once.", examples=[3000]
    )


class WrittenTargetRates(Written):
    """An entry of `rates.targets`: prices for a managed target, speeds for a self-hosted one."""

    usd_per_million_tokens: WrittenTokenPrices | None = Field(
        default=None,
        description="Of a managed target: the seller's list price.",
        examples=[{"prompt": 0.25, "cached_prompt": 0.025, "completion": 2.0}],
    )
    measured: WrittenSpeeds | None = Field(
        default=None,
        description="Of a self-hosted target: its speed, instead of measuring it (`breakeven calibrate`).",
        examples=[{"prefill_tokens_per_s": 9000, "decode_tokens_per_s": 3000}],
    )


class WrittenRates(Written):
    """`rates`: what things cost, in US dollars."""

    machines: dict[TargetName, WrittenMachinePrice] = Field(
        default={},
        description="By a machine's type, as targets name it under `machine`.",
        examples=[{"h100-80g": {"usd_per_hour": 2.5}}],
    )
    targets: dict[TargetName, WrittenTargetRates] = Field(
        default={},
        description="By the target's name.",
        examples=[{"gpu-a": {"measured": {"prefill_tokens_per_s": 9000, "decode_tokens_per_s": 3000}}}],
    )
