"""What people write about prices and speeds. Prices are decimals, exactly as written."""

from __future__ import annotations

from decimal import Decimal

from pydantic import Field

from app.documents.words import (
    Day,
    ForeignName,
    MarginalUsdPerHour,
    Percent,
    RegionMultiplier,
    ServiceTierName,
    TargetName,
    Threshold,
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
    cache_write: UsdPerMillion | None = Field(
        default=None,
        description="The same for prompt tokens written to the seller's cache. Left out: as `prompt`.",
        examples=[0.3125],
    )
    cache_write_1h: UsdPerMillion | None = Field(
        default=None, description="Those of them kept for an hour. Left out: as `cache_write`.", examples=[0.5]
    )
    reasoning: UsdPerMillion | None = Field(
        default=None, description="Output tokens of reasoning. Left out: as `completion`.", examples=[2.0]
    )
    audio_prompt: UsdPerMillion | None = Field(
        default=None, description="Prompt tokens of audio. Left out: as `prompt`.", examples=[40.0]
    )
    audio_completion: UsdPerMillion | None = Field(
        default=None, description="Output tokens of audio. Left out: as `completion`.", examples=[80.0]
    )


class WrittenLongPrompts(Written):
    """Prices of requests with a long prompt: the whole request moves to them."""

    over: Threshold | None = Field(
        default=None, description="Tokens that the prompt has to exceed (`over` or `at_least`).", examples=[272000]
    )
    at_least: Threshold | None = Field(
        default=None, description="Tokens that the prompt has to reach (`over` or `at_least`).", examples=[200000]
    )
    usd_per_million_tokens: WrittenTokenPrices = Field(
        description="All prices of such a request.",
        examples=[{"prompt": 0.5, "cached_prompt": 0.05, "completion": 3.0}],
    )


class WrittenServiceTier(Written):
    """Prices of answers that name this service tier: what the answer says is billed, not what was asked for."""

    usd_per_million_tokens: WrittenTokenPrices = Field(
        description="All prices in this tier.",
        examples=[{"prompt": 0.125, "cached_prompt": 0.0125, "completion": 1.0}],
    )
    long_prompts: list[WrittenLongPrompts] = Field(
        default=[], description="Its prices of long prompts. Left out: it has none.", examples=[[]]
    )


class WrittenPrices(Written):
    """A seller's prices: written out, or the catalogue's, or the catalogue's with some written over them."""

    usd_per_million_tokens: WrittenTokenPrices | None = Field(
        default=None,
        description="Of a managed target: the seller's list price. Beside `catalogue`: instead of its standard prices.",
        examples=[{"prompt": 0.25, "cached_prompt": 0.025, "completion": 2.0}],
    )
    usd_per_thousand_searches: UsdPerMillion | None = Field(
        default=None, description="The fee of the seller's own web search.", examples=[10]
    )
    long_prompts: list[WrittenLongPrompts] = Field(
        default=[],
        description="Prices of long prompts; beside `catalogue`: instead of its own.",
        examples=[
            [{"over": 272000, "usd_per_million_tokens": {"prompt": 0.5, "cached_prompt": 0.05, "completion": 3.0}}]
        ],
    )
    service_tiers: dict[ServiceTierName, WrittenServiceTier] = Field(
        default={},
        description="Prices by the service tier that the *answer* names; beside `catalogue`: over those of that name.",
        examples=[{"flex": {"usd_per_million_tokens": {"prompt": 0.125, "cached_prompt": 0.0125, "completion": 1.0}}}],
    )
    catalogue: ForeignName | None = Field(
        default=None,
        description="The catalogue's prices of this model, as `breakeven price list` names it.",
        examples=["openai/gpt-5-mini"],
    )
    discount_percent: Percent | None = Field(
        default=None, description="Off every price of tokens; fees by the call stay.", examples=[15, 7.5]
    )
    region_multiplier: RegionMultiplier | None = Field(
        default=None, description="Times every price of tokens, where the region costs more.", examples=[1.1]
    )


class WrittenPriceChange(WrittenPrices):
    """Prices from a day on, until the next change."""

    valid_from: Day = Field(description="The first day they are in force, in UTC.", examples=["2026-12-01"])


class WrittenSpeeds(Written):
    """`measured` of a self-hosted target: its speed at saturation, instead of a measurement when it starts."""

    prefill_tokens_per_s: TokensPerSecond = Field(
        description="Prompt tokens a second, with many requests at once.", examples=[9000]
    )
    decode_tokens_per_s: TokensPerSecond = Field(
        description="Output tokens a second, all requests together, with many at once.", examples=[3000]
    )


class WrittenTargetRates(WrittenPrices):
    """An entry of `rates.targets`: prices for a managed target, speeds for a self-hosted one."""

    measured: WrittenSpeeds | None = Field(
        default=None,
        description="Of a self-hosted target: its speed, instead of measuring it (`breakeven calibrate`).",
        examples=[{"prefill_tokens_per_s": 9000, "decode_tokens_per_s": 3000}],
    )
    valid_from: Day | None = Field(
        default=None,
        description="The first day of these prices, in UTC. Left out: since ever.",
        examples=["2026-01-01"],
    )
    valid_to: Day | None = Field(
        default=None,
        description="The day on which they end, in UTC; then there is no price. Left out: until further notice.",
        examples=["2027-01-01"],
    )
    changes: list[WrittenPriceChange] = Field(
        default=[],
        description="Prices to come: each from its day on, instead of those before.",
        examples=[[{"valid_from": "2026-12-01", "catalogue": "openai/gpt-5-mini", "discount_percent": 20}]],
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
