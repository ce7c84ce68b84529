"""What the console's policy routes are asked with. Unknown fields are refused; who asks never stands in a body."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from app.domain.caller import Caller
from app.domain.routing.facts import Endpoint, RequestFacts
from app.flows.policy_dry_run import NOBODYS_REQUEST

#: Policy files in a body; the shelf takes no more files.
MOST_FILES: Final = 256
MOST_REVISIONS: Final = 200
MOST_REQUESTS: Final = 10_000
LARGEST_POLICY_BYTES: Final = 2 * 1024 * 1024

_Word = Annotated[str, Field(max_length=200)]
_Words = Annotated[list[_Word], Field(max_length=64)]
_Count = Annotated[int, Field(ge=0, le=10**12)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\.yaml$")]
Files = Annotated[dict[FileName, str], Field(min_length=1, max_length=MOST_FILES)]
#: A digest, or a beginning of it.
DIGEST_PATTERN: Final = r"^[0-9a-f]{4,16}$"


class Form(BaseModel):
    """Nothing is taken that a form does not name, and nothing is turned into something else."""

    model_config = ConfigDict(extra="forbid", strict=True)


class HistoryForm(BaseModel):
    """How many revisions, the newest first."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=MOST_REVISIONS)] = 50


class CheckForm(Form):
    """Candidate files: name → text."""

    files: Files


class CallerForm(Form):
    """Who would ask. It stands for nobody: a dry run spends nothing and opens nothing."""

    key: _Word = "nobody"
    team: _Word = "nobody"
    cost_centre: _Word = "none"
    tags: _Words = []


class RequestForm(Form):
    """What would be asked for."""

    endpoint: Annotated[Endpoint, Field(strict=False)] = Endpoint.CHAT
    stream: bool = False
    prompt_tokens: _Count = 1000
    output_tokens_most: Annotated[int, Field(ge=1, le=10**12)] | None = None
    n: Annotated[int, Field(ge=1, le=1000)] = 1
    has_tools: bool = False
    has_images: bool = False
    has_audio: bool = False
    json_schema: bool = False
    data_class: _Word = ""
    deadline_s: Annotated[float, Field(ge=0, le=1e9)] | None = None
    priority: Annotated[int, Field(ge=-(10**9), le=10**9)] = 0
    tags: _Words = []
    session: _Word = ""
    prefix_tokens: _Count = 0


class DryRunForm(Form):
    """Facts, and the files to decide by; without files: by the policy in force. Without `at`: now."""

    model: _Word
    caller: CallerForm = CallerForm()
    request: RequestForm = RequestForm()
    at: Annotated[AwareDatetime, Field(strict=False)] | None = None
    files: Files | None = None

    def facts(self) -> RequestFacts:
        """As the rules see them."""
        asked, caller = self.request, self.caller
        return RequestFacts(
            request_id=NOBODYS_REQUEST,
            model=self.model,
            caller=Caller(key_id=caller.key, team=caller.team, cost_centre=caller.cost_centre, tags=tuple(caller.tags)),
            tags=tuple(asked.tags),
            **asked.model_dump(exclude={"tags"}),
        )


class DiffForm(Form):
    """Two policies: digests or beginnings of them, `files` or `live`; and how many past requests to decide again."""

    old: _Word
    new: _Word
    last: Annotated[int, Field(ge=0, le=MOST_REQUESTS)] = 1000


class RollbackForm(Form):
    """The revision to go back to. Who goes back is whoever holds the operator's key, and nobody else is believed."""

    digest: Annotated[str, Field(pattern=DIGEST_PATTERN)]


class ReleaseForm(Form):
    """Nothing to say."""
