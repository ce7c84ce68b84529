"""What people write about budgets: whose money, how much, for how long. They are watched, not enforced yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from app.documents.words import ForeignName, Line, ModelName, Usd, Written


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


class WrittenBudget(Written):
    """An entry of `budgets`."""

    not_yet: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("mode", "warn_at", "past"), "remove it: budgets are watched, not enforced, yet; conditions can read them"
    )

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
