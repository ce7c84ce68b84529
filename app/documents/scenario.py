"""What people write about scenarios, the tests that stand beside the rules."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictStr

from app.documents.gather import Placed
from app.documents.page import Listing, Page, Scalar
from app.documents.shape import shaped
from app.documents.words import (
    Answers,
    Count,
    Hour,
    Line,
    Measure,
    Minute,
    ModelName,
    Priority,
    TargetName,
    UsdLeft,
    Weekday,
    Written,
)
from app.domain.findings import Finding

SECTION = "scenarios"
#: A Monday; the day and hour of a scenario that names none.
USUAL_DAY = date(2026, 11, 23)
USUAL_HOUR = 12
USUAL_PROMPT_TOKENS = 500
#: Every filter of `decide`, as `expect: {filter: …}` names it; the last two are of `spill`.
FilterName = Literal[
    "endpoint",
    "features",
    "context",
    "data_class",
    "credential",
    "model",
    "price",
    "circuit",
    "rate",
    "room",
    "queue",
    "spill",
    "spill_cap",
    "budget",
]


def _day(text: str) -> str:
    try:
        if len(text) == len("2026-11-23") and date.fromisoformat(text):
            return text
    except ValueError:
        pass
    raise ValueError("it is no day; write it as in 2026-11-23")


class WrittenCaller(Written):
    """`given.caller`: who asks."""

    key: Line = Field(default="scenario", description="The id of the virtual key.", examples=["abcdefgh"])
    team: StrictStr = Field(default="", description="The key's team.", examples=["legal"])
    cost_centre: StrictStr = Field(default="", description="The key's cost centre.", examples=["cc-7"])
    tags: list[StrictStr] = Field(default_factory=list, description="The key's tags.", examples=[["stable"]])


class WrittenRequest(Written):
    """`given.request`: what is asked."""

    request_id: Line | None = Field(
        default=None,
        description="What weights and shadows are drawn by. Left out, it follows from the scenario's name.",
        examples=["draw-1"],
    )
    endpoint: Literal["chat", "completions"] = Field(
        default="chat", description="The endpoint that is called.", examples=["completions"]
    )
    stream: StrictBool = Field(default=False, description="The answer is streamed.", examples=[True])
    prompt_tokens: Count = Field(
        default=USUAL_PROMPT_TOKENS, description="The estimated length of the prompt.", examples=[900]
    )
    output_tokens_most: Count | None = Field(
        default=None, description="The caller's own cap on output tokens.", examples=[200]
    )
    n: Answers = Field(default=1, description='Answers asked for. YAML wants the key in quotes: "n".', examples=[2])
    has_tools: StrictBool = Field(default=False, description="The body has tools.", examples=[True])
    has_images: StrictBool = Field(default=False, description="The body has images.", examples=[True])
    has_audio: StrictBool = Field(default=False, description="The body has audio.", examples=[True])
    json_schema: StrictBool = Field(default=False, description="The body asks for a JSON schema.", examples=[True])
    data_class: StrictStr = Field(default="", description="The header x-breakeven-data-class.", examples=["restricted"])
    deadline_s: Measure | None = Field(
        default=None, description="The header x-breakeven-deadline-s, in seconds.", examples=[3600]
    )
    priority: Priority = Field(default=0, description="The header x-breakeven-priority.", examples=[1])
    tags: list[StrictStr] = Field(
        default_factory=list, description="The header x-breakeven-tags.", examples=[["batch"]]
    )
    session: StrictStr = Field(default="", description="Names the conversation.", examples=["talk-1"])
    prefix_tokens: Count = Field(
        default=0, description="Of the prompt's tokens, those of earlier turns of the conversation.", examples=[700]
    )


class WrittenTime(Written):
    """`given.time`: when, in the policy's timezone."""

    hour: Hour = Field(default=USUAL_HOUR, description="0 to 23.", examples=[3])
    minute: Minute = Field(default=0, description="0 to 59.", examples=[30])
    weekday: Weekday | None = Field(
        default=None, description="1 is Monday, 7 Sunday; of the week from 2026-11-23 on.", examples=[6]
    )
    date: Annotated[StrictStr, AfterValidator(_day)] | None = Field(
        default=None, description="The day; its weekday follows.", examples=["2026-12-24"]
    )


class WrittenTargetSeen(Written):
    """An entry of `given.fleet`: what is different from a quiet day there."""

    in_flight: Count | None = Field(default=None, description="Requests in flight there.", examples=[64])
    waiting: Count | None = Field(default=None, description="Requests in the engine's own queue.", examples=[8])
    saturation: Measure | None = Field(
        default=None, description="How full it is: 0 to 1, and above when work queues.", examples=[0.9]
    )
    predicted_ttft_ms: Measure | None = Field(
        default=None, description="Predicted milliseconds to the first token.", examples=[4000]
    )
    age_s: Measure | None = Field(
        default=None, description="Seconds since the engine's signals were read.", examples=[30]
    )
    circuit: Literal["closed", "open", "half_open"] | None = Field(
        default=None, description="`open`: it rests after repeated failures.", examples=["open"]
    )
    credential: Literal["present", "absent"] = Field(
        default="present", description="Whether its key is there.", examples=["absent"]
    )
    serves_instead: StrictStr = Field(
        default="", description="The model that its engine serves in the place of the policy's.", examples=["llama"]
    )
    requests_left: Count | None = Field(default=None, description="Requests left of this minute's limit.", examples=[0])
    tokens_left: Count | None = Field(default=None, description="Tokens left of this minute's limit.", examples=[100])
    price: Literal["known", "unknown"] = Field(
        default="known", description="Whether its price is known.", examples=["unknown"]
    )


class WrittenBudgetSeen(Written):
    """An entry of `given.budget`; what is left out is as if nothing had been spent."""

    remaining_usd: UsdLeft | None = Field(
        default=None, description="US dollars left; `used` follows from it.", examples=[12.5]
    )
    used: Measure | None = Field(
        default=None,
        description="The part that is spent: 0 to 1, and above. `remaining_usd` follows from it.",
        examples=[0.95],
    )
    days_left: Count | None = Field(
        default=None, description="Days until the budget begins anew, today included.", examples=[3]
    )


class WrittenGiven(Written):
    """`given`: the request and the world it meets. What is left out is a quiet Monday noon."""

    model: ModelName = Field(description="The model that is asked for.", examples=["chat"])
    caller: WrittenCaller = Field(default=WrittenCaller(), description="Who asks.", examples=[{"team": "legal"}])
    request: WrittenRequest = Field(
        default=WrittenRequest(), description="What is asked.", examples=[{"prompt_tokens": 900}]
    )
    time: WrittenTime = Field(
        default=WrittenTime(), description="When, in the policy's timezone.", examples=[{"hour": 3, "weekday": 6}]
    )
    fleet: dict[TargetName, WrittenTargetSeen] = Field(
        default_factory=dict,
        description="Targets that are not at rest. The others are idle, closed, priced, with their key.",
        examples=[{"gpu-a": {"circuit": "open"}}],
    )
    budget: dict[TargetName, WrittenBudgetSeen] = Field(
        default_factory=dict,
        description="Budgets of which something is spent.",
        examples=[{"research-monthly": {"used": 0.95}}],
    )
    spill_spent_usd: Measure | None = Field(
        default=None, description="What the rule has spilled in the hour before.", examples=[5]
    )


class WrittenExpect(Written):
    """`expect`: what has to be decided. At least one of them."""

    rule: Line | None = Field(default=None, description="The rule that matches.", examples=["legal stays home"])
    first: TargetName | None = Field(default=None, description="The target that is asked first.", examples=["gpu-a"])
    order: Annotated[list[TargetName], Field(min_length=1)] | None = Field(
        default=None, description="All targets that are asked, in order.", examples=[["gpu-a", "hosted-mini"]]
    )
    refused: Literal["no_target", "no_rule"] | None = Field(
        default=None, description="The request is refused, for this reason.", examples=["no_target"]
    )
    never: Annotated[list[TargetName], Field(min_length=1)] | None = Field(
        default=None,
        description="Targets that are not asked, not as a fallback either, and get no copy.",
        examples=[["hosted-mini"]],
    )
    spilled: StrictBool | None = Field(
        default=None, description="Whether slow self-hosted targets are left for a managed one.", examples=[True]
    )
    shadow: TargetName | None = Field(
        default=None, description="The target that gets a copy; `none`: no target does.", examples=["gpu-new"]
    )
    filter: Annotated[dict[TargetName, FilterName], Field(min_length=1)] | None = Field(
        default=None, description="By target: what keeps it out or holds it back.", examples=[{"gpu-a": "circuit"}]
    )


class WrittenScenario(Written):
    """One of `scenarios`: a test of the rules."""

    name: Line = Field(description="What it shows; once over all files.", examples=["legal never leaves the building"])
    given: WrittenGiven = Field(
        description="The request and the world it meets.", examples=[{"model": "chat", "caller": {"team": "legal"}}]
    )
    expect: WrittenExpect = Field(
        description="What has to be decided.", examples=[{"first": "gpu-a", "never": ["hosted-mini"]}]
    )


def gather_scenarios(pages: Sequence[Page]) -> tuple[tuple[Placed[WrittenScenario], ...], tuple[Finding, ...]]:
    """The scenarios of all pages in the order given, and every fault of shape; a name may be given once."""
    placed: list[Placed[WrittenScenario]] = []
    findings: list[Finding] = []
    first: dict[str, str] = {}
    for page in pages:
        node = page.node((SECTION,))
        if node is None or (isinstance(node, Scalar) and node.value is None):
            continue
        if not isinstance(node, Listing):
            mend = "begin each with a dash, as in `- name: …`"
            findings.append(page.finding("shape", "scenarios must be a list", at=node.mark, mend=mend))
            continue
        for index in range(len(node.items)):
            path = (SECTION, index)
            written, faults = shaped(page, path, WrittenScenario)
            findings.extend(faults)
            one = Placed(page=page, path=path, written=written)
            if written is None:
                continue
            if written.name in first:
                message = f'a scenario "{written.name}" is already written in {first[written.name]}'
                findings.append(one.finding("duplicate-name", message, below=("name",), mend="give it another name"))
                continue
            first[written.name] = f"{page.file}:{page.mark(path).line}"
            placed.append(one)
    return tuple(placed), tuple(findings)


def day_of(written: WrittenTime) -> date | None:
    """The scenario's day: its `date`, or that weekday from Monday 2026-11-23 on. None: the two contradict."""
    if written.date is None:
        return USUAL_DAY + timedelta(days=(written.weekday or 1) - 1)
    day = date.fromisoformat(written.date)
    return None if written.weekday not in (None, day.isoweekday()) else day
