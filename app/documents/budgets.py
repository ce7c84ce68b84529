"""What people write about budgets: whose money, how much, for how long, and what happens when it runs out."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema

from app.documents.words import ForeignName, Line, ModelName, Share, TargetName, Usd, Written

_FINEST = Decimal("0.000001")


def _part(text: str) -> str:
    """A key of `past`. It stays text, as written: places of findings are told by it."""
    try:
        part = Decimal(text)
    except InvalidOperation:
        part = Decimal(-1)
    if not 0 < part <= 1 or part % _FINEST:
        raise ValueError("it must be a part of the budget: over 0, and 1 for all of it, as in 0.9")
    return text


#: The part of a budget from which on a step counts.
Part = Annotated[
    str, AfterValidator(_part), WithJsonSchema({"type": "string", "pattern": r"^(0?\.\d{1,6}|1(\.0{1,6})?)$"})
]


class WrittenScope(Written):
    """`of` of a budget. What is left out does not narrow it."""

    team: Line | None = Field(default=None, description="Only what this team spends.", examples=["research"])
    cost_centre: Line | None = Field(default=None, description="Only what this cost centre spends.", examples=["cc-7"])
    key: ForeignName | None = Field(
        default=None,
        description="Only what this virtual key spends: its id, never the key itself.",
        examples=["key_01J8Z3"],
    )
    model: ModelName | None = Field(default=None, description="Only requests for this model.", examples=["chat"])
    tag: Line | None = Field(default=None, description="Only what keys with this tag spend.", examples=["project-x"])

    @property
    def whose(self) -> tuple[str | None, ...]:
        """Two scopes with the same are of the same money."""
        return (self.team, self.cost_centre, self.key, self.model, self.tag)


class WrittenStep(Written):
    """A step of `past`: at least one of the two."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    prefer: Literal["cheapest"] | None = Field(
        default=None, description="The rule's own order gives way to price.", examples=["cheapest"]
    )
    only: Annotated[list[TargetName], Field(min_length=1)] | None = Field(
        default=None,
        description=(
            "No other target may serve. At 1.0 requests go on at these, past the budget, and hold nothing of it."
        ),
        examples=[["gpu-a"]],
    )


class WrittenBudget(Written):
    """An entry of `budgets`."""

    of: WrittenScope = Field(
        default=WrittenScope(),
        description="Whose spending it counts; several keys narrow it together. Left out: the whole gateway's.",
        examples=[{"team": "research"}, {"cost_centre": "cc-7", "model": "chat"}],
    )
    usd: Usd = Field(description="US dollars for each period.", examples=[500])
    every: Literal["day", "week", "month"] = Field(
        description="After which it begins anew, in the policy's `timezone`. Weeks begin on Monday.",
        examples=["month"],
    )
    mode: Literal["hard", "soft", "watch"] = Field(
        default="hard",
        description=(
            "hard (the default): the worst case of a request is held before it is sent, so the budget is never "
            "overspent. soft: the likely case is held; the last requests may overspend it. watch: nothing is held and "
            "nobody is refused; conditions and reports see it."
        ),
        examples=["hard"],
    )
    warn_at: list[Share] = Field(
        default=[],
        description="Parts of it at which a warning is sent, once a period and again when it is raised. With any, a "
        "warning is sent too when the budget will be used up before its period ends.",
        examples=[[0.5, 0.8, 1.0]],
    )
    past: dict[Part, WrittenStep | Literal["refuse"]] = Field(
        default={},
        description=(
            "What changes once a part of it is spent: each step replaces the one before. Without one at 1.0, or with "
            "`refuse` there, requests are then refused."
        ),
        examples=[{"0.9": {"prefer": "cheapest"}, "1.0": {"only": ["gpu-a"]}}],
    )
