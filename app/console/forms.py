"""What the console is asked with. Unknown fields are refused: nothing that a form does not name is ever stored."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from app.domain.limits import PER_MINUTE_MOST

MOST_REQUESTS = 200
Word = Annotated[str, Field(max_length=200)]
PerMinute = Annotated[int, Field(ge=1, le=PER_MINUTE_MOST)]


class KeyForm(BaseModel):
    """A new virtual key. `models` left out: every model; `expires_at` left out: never. What it stands for is chosen
    here by the operator, never by the key's holder."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Word
    team: Word
    cost_centre: Word | None = None
    tags: Annotated[list[Word], Field(max_length=64)] = []
    models: Annotated[list[Word], Field(max_length=1024)] | None = None
    expires_at: AwareDatetime | None = None
    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None


class RotationForm(BaseModel):
    """A key that follows another one, which goes on for `overlap_s` at most."""

    model_config = ConfigDict(extra="forbid", strict=True)

    overlap_s: Annotated[int, Field(ge=0)] = 86_400


class TeamForm(BaseModel):
    """A new team."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Word
    cost_centre: Word
    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None


class ReportForm(BaseModel):
    """A cost report. `from` and `to` are periods as people write them, both included."""

    model_config = ConfigDict(extra="forbid")

    by: Annotated[str, Field(max_length=200)] = "team,target"
    first: Annotated[Word | None, Field(alias="from")] = None
    last: Annotated[Word | None, Field(alias="to")] = None
    cost_centre: Annotated[list[Word], Field(max_length=100)] = []
    format: Literal["json", "csv"] = "json"


class AlertsForm(BaseModel):
    """The newest so many alerts."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=MOST_REQUESTS)] = 50


class RequestsForm(BaseModel):
    """The newest requests first; `before` is the last id of the page before."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=MOST_REQUESTS)] = 50
    before: Annotated[str | None, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")] = None


class PageForm(BaseModel):
    """The start page's own little form; an empty field is a field left out."""

    model_config = ConfigDict(extra="forbid")

    by: Annotated[str, Field(max_length=200)] = "team,target"
    first: Annotated[Word, Field(alias="from")] = ""
    last: Annotated[Word, Field(alias="to")] = ""
