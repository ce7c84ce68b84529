"""What people write about targets and models: the keys and their types. What a type cannot see, `lint` checks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from app.documents.words import (
    Attempts,
    ConditionText,
    ForeignName,
    InFlight,
    Line,
    MachineCount,
    Reference,
    Seconds,
    TargetName,
    Tokens,
    Weight,
    Written,
)

Engine = Literal[
    "vllm",
    "sglang",
    "trtllm",
    "triton",
    "llamacpp",
    "openvino",
    "tgi",
    "lmdeploy",
    "ollama",
    "nim",
    "dynamo",
    "openai_compatible",
]
#: Sellers whose dialect is spoken: OpenAI's own, and any other that speaks it too.
Provider = Literal["openai", "openai_compatible"]
#: Where a provider answers when the policy gives no `url`.
PROVIDER_URLS = {"openai": "https://api.openai.com/v1"}

Can = Literal["chat", "completions", "json_schema", "tools", "images", "audio"]


class WrittenLimits(Written):
    """`limits` of a target."""

    in_flight: InFlight | None = None


class WrittenMachine(Written):
    """`machine` of a self-hosted target."""

    type: TargetName
    count: MachineCount = 1


class WrittenTarget(Written):
    """An entry of `targets`."""

    hosting: Literal["self_hosted", "managed"]
    engine: Engine | None = None
    provider: Provider | None = None
    url: Reference | None = None
    model: ForeignName
    can: Annotated[list[Can], Field(min_length=1)]
    context_tokens: Tokens | None = None
    limits: WrittenLimits = WrittenLimits()
    credential: Reference | None = None
    machine: WrittenMachine | None = None


class WrittenWeights(Written):
    """`prefer: {weighted: {…}}`."""

    weighted: dict[TargetName, Weight]


#: The two forms of `prefer`. pydantic puts the form into the place of a fault, right behind `prefer`.
FORMS = ("<word>", "<mapping>")


def _form_of_prefer(value: object) -> str:
    return "<mapping>" if isinstance(value, dict | WrittenWeights) else "<word>"


Prefer = Annotated[
    Annotated[Literal["listed", "cheapest"], Tag("<word>")] | Annotated[WrittenWeights, Tag("<mapping>")],
    Discriminator(_form_of_prefer),
]


class WrittenRule(Written):
    """One of a model's `rules`."""

    name: Line
    when: ConditionText | None = None
    use: Annotated[list[TargetName], Field(min_length=1)]
    prefer: Prefer = "listed"


class WrittenTimeouts(Written):
    """`timeouts` of a model. What is left out keeps the product's default."""

    connect_s: Seconds | None = None
    first_token_s: Seconds | None = None
    idle_s: Seconds | None = None
    total_s: Seconds | None = None


class WrittenOutputTokens(Written):
    """`output_tokens` of a model."""

    default: Tokens | None = None
    most: Tokens | None = None


class WrittenModel(Written):
    """An entry of `models`."""

    rules: Annotated[list[WrittenRule], Field(min_length=1)]
    attempts: Attempts = 3
    timeouts: WrittenTimeouts = WrittenTimeouts()
    output_tokens: WrittenOutputTokens = WrittenOutputTokens()
