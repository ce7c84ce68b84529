"""What people write about targets and models: the keys and their types. What a type cannot see, `lint` checks.

Descriptions and examples go into the JSON Schema for editors (`schema`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Discriminator, Field, StrictBool, StrictStr, Tag

from app.documents.words import (
    Attempts,
    ConditionText,
    DataClass,
    ForeignName,
    InFlight,
    Line,
    MachineCount,
    Milliseconds,
    Reference,
    RequestsPerMinute,
    Seconds,
    Share,
    TargetName,
    Tokens,
    TokensPerMinute,
    Usd,
    UsdPerSecond,
    Waiting,
    Weight,
    Written,
)
from app.domain.engine import OWN_PREFIX

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
#: An engine that `engines` adds.
OWN_ENGINE = OWN_PREFIX + r"[a-z0-9][a-z0-9._-]{0,58}"
OwnEngine = Annotated[StrictStr, Field(pattern=f"^{OWN_ENGINE}$")]


def _form_of_engine(value: object) -> str:
    return "<own>" if isinstance(value, str) and value.startswith(OWN_PREFIX) else "<known>"


#: One that the product knows, or one that `engines` adds.
AnyEngine = Annotated[
    Annotated[Engine, Tag("<known>")] | Annotated[OwnEngine, Tag("<own>")], Discriminator(_form_of_engine)
]
#: Sellers whose dialect is spoken: OpenAI's own, and any other that speaks it too.
Provider = Literal["openai", "openai_compatible"]
#: Where a provider answers when the policy gives no `url`.
PROVIDER_URLS = {"openai": "https://api.openai.com/v1"}

Can = Literal["chat", "completions", "json_schema", "tools", "images", "audio"]
#: What becomes of a stream that breaks after its first byte.
WrittenRecovery = Literal["error", "restart", "continue", "buffer"]
#: What is kept for repeats of a request that came with an idempotency key.
WrittenKeptAnswers = Literal["nothing", "whole", "all"]
#: `none` is for a rule that does not want what `defaults` say.
Affinity = Literal["session", "none"]
PreferWord = Literal["listed", "cheapest", "fastest"]


class WrittenLimits(Written):
    """`limits` of a target."""

    in_flight: InFlight | None = Field(
        default=None,
        description="Most requests that may be there at once. The gateway processes of one machine share it where the "
        "engine tells its load; elsewhere each has it.",
        examples=[64],
    )
    waiting: Waiting | None = Field(
        default=None,
        description="Most requests that may wait for it: in the engine's own queue, and in that of each gateway "
        "process where a rule says `wait: true` (1024 when left out).",
        examples=[16],
    )
    requests_per_minute: RequestsPerMinute | None = Field(
        default=None, description="Requests a minute that its seller allows one gateway process.", examples=[5000]
    )
    tokens_per_minute: TokensPerMinute | None = Field(
        default=None, description="Tokens a minute that its seller allows one gateway process.", examples=[2_000_000]
    )


class WrittenMachine(Written):
    """`machine` of a self-hosted target."""

    type: TargetName = Field(
        description="Its type; the price stands under `rates.machines` by this name.", examples=["h100-80g"]
    )
    count: MachineCount = Field(default=1, description="How many of them the target runs on.", examples=[1])


class WrittenTarget(Written):
    """An entry of `targets`: one place that serves a model."""

    hosting: Literal["self_hosted", "managed"] = Field(
        description="`self_hosted`: your machine, paid by the hour. `managed`: paid by the token.",
        examples=["self_hosted"],
    )
    engine: AnyEngine | None = Field(
        default=None,
        description="Of a self-hosted target: what serves there; `own-…` is one that `engines` adds.",
        examples=["vllm", "own-gateway"],
    )
    provider: Provider | None = Field(
        default=None, description="Of a managed target: whose dialect it speaks.", examples=["openai"]
    )
    url: Reference | None = Field(
        default=None,
        description="Up to and with `/v1`. May be left out for `provider: openai`.",
        examples=["http://127.0.0.1:8001/v1"],
    )
    model: ForeignName = Field(
        description="The name that the target itself knows the model by.", examples=["gpt-5-mini"]
    )
    can: Annotated[list[Can], Field(min_length=1)] = Field(
        description="Endpoints and features that it serves. A request for what is not listed does not go there.",
        examples=[["chat", "completions", "json_schema"]],
    )
    context_tokens: Tokens | None = Field(
        default=None, description="Prompts that are longer do not go there.", examples=[8192]
    )
    limits: WrittenLimits = Field(
        default=WrittenLimits(), description="How much it takes at once and in a minute.", examples=[{"in_flight": 64}]
    )
    data_classes: Annotated[list[DataClass], Field(min_length=1)] | None = Field(
        default=None,
        description="Data classes that may go there; then a request without a class may not. Left out: every class.",
        examples=[["public", "internal"]],
    )
    credential: Reference | None = Field(
        default=None,
        description=(
            "Where its key is, never the key itself: `env:NAME`, an environment variable, or `file:NAME`, a file below "
            "the directory BREAKEVEN_CREDENTIALS. While there is none the target is left out."
        ),
        examples=["env:OPENAI_API_KEY", "file:openai-key"],
    )
    machine: WrittenMachine | None = Field(
        default=None,
        description="Of a self-hosted target: on what it runs.",
        examples=[{"type": "h100-80g", "count": 1}],
    )


class WrittenPreference(Written):
    """The mapping forms of `prefer`: exactly one of the two."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    usd_per_second: UsdPerSecond | None = Field(
        default=None,
        description=(
            "What a second to the first token is worth in US dollars: one number that trades money for time. "
            "Candidates are ordered by expected charge plus this times the predicted seconds."
        ),
        examples=[0.002],
    )
    weighted: dict[TargetName, Weight] | None = Field(
        default=None,
        description="A whole number for each target of `use`: its share of the requests. 0: a last resort.",
        examples=[{"gpu-a": 90, "hosted-mini": 10}],
    )


#: The forms of `prefer` and of `engine`. pydantic puts the form into the place of a fault, right behind the key.
FORMS = ("<word>", "<mapping>", "<known>", "<own>")


def _form_of_prefer(value: object) -> str:
    return "<mapping>" if isinstance(value, dict | WrittenPreference) else "<word>"


Prefer = Annotated[
    Annotated[PreferWord, Tag("<word>")] | Annotated[WrittenPreference, Tag("<mapping>")],
    Discriminator(_form_of_prefer),
]


class WrittenSpill(Written):
    """`spill` of a rule: when it leaves its self-hosted targets, and for how much. At least one of the two."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    predicted_ttft_ms: Milliseconds | None = Field(
        default=None,
        description="Self-hosted targets with a first token predicted later than this stand behind all others.",
        examples=[1500],
    )
    max_usd_per_hour: Usd | None = Field(
        default=None,
        description=(
            "US dollars that the rule may spend at managed targets within any 60 minutes, for each gateway process."
        ),
        examples=[5],
    )


class WrittenShadow(Written):
    """`shadow` of a rule: a copy of some requests goes to another target, and the answer is only measured."""

    target: TargetName = Field(description="Where the copies go; not a target of `use`.", examples=["gpu-new"])
    share: Share = Field(description="The part of the rule's requests that is copied; 1: all.", examples=[0.05])
    max_usd_per_day: Usd | None = Field(
        default=None,
        description="US dollars that the copies may cost within any 24 hours, for each gateway process.",
        examples=[2],
    )


class WrittenRule(Written):
    """One of a model's `rules`."""

    name: Line = Field(
        description="Once in a model; receipts and explanations show it.", examples=["restricted data stays home"]
    )
    when: ConditionText | None = Field(
        default=None,
        description="A condition (CEL). The first rule whose condition holds decides; without one it always does.",
        examples=['request.data_class == "restricted" || caller.team == "legal"'],
    )
    use: Annotated[list[TargetName], Field(min_length=1)] = Field(
        description="The targets that may answer, in order.", examples=[["gpu-a", "hosted-mini"]]
    )
    prefer: Prefer | None = Field(
        default=None,
        description=(
            "In which order those are asked that can serve the request now: `listed` (as in `use`, the default), "
            "`cheapest`, `fastest`, `{usd_per_second: x}` or `{weighted: {TARGET: N}}`."
        ),
        examples=["listed", {"usd_per_second": 0.002}, {"weighted": {"gpu-a": 90, "hosted-mini": 10}}],
    )
    spill: WrittenSpill | None = Field(
        default=None,
        description="Leave slow self-hosted targets for managed ones, and for how much money at most.",
        examples=[{"predicted_ttft_ms": 1500, "max_usd_per_hour": 5}],
    )
    affinity: Affinity | None = Field(
        default=None,
        description=(
            "`session`: a conversation stays with the target that has it in its prefix cache, while its load allows. "
            "`none` (the default): each request for itself."
        ),
        examples=["session"],
    )
    wait: StrictBool | None = Field(
        default=None,
        description="true: a target at its `in_flight` limit stays a candidate, and the request waits for a place "
        "there, in a queue that is fair between teams, for `timeouts.queue_s` at the most.",
        examples=[True],
    )
    shadow: WrittenShadow | None = Field(
        default=None,
        description="Copies of some requests go to another target too; callers never see those answers.",
        examples=[{"target": "gpu-new", "share": 0.05, "max_usd_per_day": 2}],
    )


class WrittenTimeouts(Written):
    """`timeouts` of a model. What is left out comes from `defaults`, and then from the product."""

    connect_s: Seconds | None = Field(default=None, description="Seconds to connect to a target.", examples=[2])
    first_token_s: Seconds | None = Field(
        default=None, description="Of a stream: seconds to the first token.", examples=[10]
    )
    idle_s: Seconds | None = Field(
        default=None, description="Of a stream: seconds between two pieces of it.", examples=[20]
    )
    total_s: Seconds | None = Field(
        default=None, description="Seconds for the whole request, all attempts.", examples=[300]
    )
    queue_s: Seconds | None = Field(
        default=None,
        description="Seconds that a request may wait for full targets, where its rule says `wait: true`. Left out: as "
        "`first_token_s`.",
        examples=[5],
    )


class WrittenHedge(Written):
    """`hedge` of a model."""

    after_ms: Milliseconds | None = Field(
        default=None,
        description="Milliseconds after which a second target is asked beside one that has not begun to answer. Left "
        "out: none is, whatever the defaults say.",
        examples=[700],
    )


class WrittenOutputTokens(Written):
    """`output_tokens` of a model."""

    default: Tokens | None = Field(
        default=None, description="Tokens assumed for an estimate when the caller names no cap.", examples=[1024]
    )
    most: Tokens | None = Field(default=None, description="The most that a caller may ask for.", examples=[4096])


_ATTEMPTS = "Most targets that are asked for one request."
_TIMEOUTS = "Bounds of one request, in seconds."
_OUTPUT_TOKENS = "How long answers are taken to be, and how long they may be asked for."
_RECOVERY = (
    "What becomes of a stream that breaks after its first byte. `error`: the caller gets an error event. `buffer`: "
    "nothing is sent before the stream is whole, so that another target can answer. `restart`: another target answers "
    "anew, and has to reproduce what was sent. `continue`: another target goes on where it broke off."
)

_HEDGE = (
    "A first attempt that is slow to begin gets a second one beside it, at the next target that is free; whoever "
    "begins to answer first answers, the other is broken off, and both are paid. Off where it is not written."
)
_KEPT_ANSWERS = (
    "Which answers are kept for 24 hours, sealed so that only their caller can read them, for a request that comes "
    "again with the same Idempotency-Key. `nothing`; `whole`: those that are not streamed; `all`: streams too."
)


class WrittenModel(Written):
    """An entry of `models`: a name that callers may ask for, and the rules that choose a target."""

    rules: Annotated[list[WrittenRule], Field(min_length=1)] = Field(
        description="In order: the first whose `when` holds decides.",
        examples=[[{"name": "the worker alone", "use": ["cpu-worker"]}]],
    )
    attempts: Attempts | None = Field(default=None, description=_ATTEMPTS, examples=[3])
    timeouts: WrittenTimeouts = Field(default=WrittenTimeouts(), description=_TIMEOUTS, examples=[{"total_s": 300}])
    recovery: WrittenRecovery | None = Field(default=None, description=_RECOVERY, examples=["error"])
    hedge: WrittenHedge | None = Field(default=None, description=_HEDGE, examples=[{"after_ms": 700}])
    kept_answers: WrittenKeptAnswers | None = Field(default=None, description=_KEPT_ANSWERS, examples=["whole"])
    output_tokens: WrittenOutputTokens = Field(
        default=WrittenOutputTokens(), description=_OUTPUT_TOKENS, examples=[{"default": 1024, "most": 4096}]
    )


class WrittenDefaults(Written):
    """`defaults`: what models and rules are when they do not say it themselves. Once over all files."""

    attempts: Attempts | None = Field(default=None, description=_ATTEMPTS, examples=[3])
    timeouts: WrittenTimeouts = Field(default=WrittenTimeouts(), description=_TIMEOUTS, examples=[{"total_s": 300}])
    recovery: WrittenRecovery | None = Field(default=None, description=_RECOVERY, examples=["error"])
    hedge: WrittenHedge | None = Field(default=None, description=_HEDGE, examples=[{"after_ms": 700}])
    kept_answers: WrittenKeptAnswers | None = Field(default=None, description=_KEPT_ANSWERS, examples=["whole"])
    output_tokens: WrittenOutputTokens = Field(
        default=WrittenOutputTokens(), description=_OUTPUT_TOKENS, examples=[{"default": 1024, "most": 4096}]
    )
    prefer: PreferWord | None = Field(
        default=None, description="`prefer` of rules that do not say; the words only.", examples=["cheapest"]
    )
    affinity: Affinity | None = Field(
        default=None, description="`affinity` of rules that do not say.", examples=["session"]
    )
    wait: StrictBool | None = Field(default=None, description="`wait` of rules that do not say.", examples=[False])
