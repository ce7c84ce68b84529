"""The policy in force, in one place, swapped in one assignment; and how it came to be in force."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.findings import Finding, Severity
from app.domain.routing.policy import Policy
from app.ports import Pin

#: Findings that one sentence names.
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An offer that did not go live. `digest` None: its files could not even be read."""

    digest: str | None
    findings: tuple[Finding, ...]
    #: Unix seconds when it was refused here.
    since_s: float

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that forbid it, without the warnings."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyStatus:
    """What this process knows of its policy. Times in Unix seconds."""

    #: In force here, and since when.
    digest: str
    since_s: float
    #: Its warnings.
    findings: tuple[Finding, ...] = ()
    #: The operator pinned a revision: whatever the files say, they wait until it is released.
    pin: Pin | None = None
    #: What the files say now, if it may go live; other than `digest` while a revision is pinned. None: it may not.
    files_digest: str | None = None
    #: The files, while they may not go live.
    refused: Refused | None = None
    #: The pinned revision, while it may not go live.
    pin_refused: Refused | None = None
    #: Swaps since this process started.
    reloads: int = 0

    def warning(self) -> str | None:
        """What somebody should look at, in one line; None when the files are in force."""
        told = [
            *([] if self.refused is None else [f"the files were refused: {_named(self.refused)}"]),
            *([] if self.pin_refused is None else [f"the pinned revision was refused: {_named(self.pin_refused)}"]),
            *([] if self.pin is None else [f"digest {self.pin.digest} is pinned by {self.pin.by}; {_RELEASE}"]),
        ]
        return "; ".join([*told, f"digest {self.digest} stays in force"]) if told else None


class PolicySlot:
    """Holds the current policy. A request reads `current` once and keeps what it read."""

    __slots__ = ("current", "status")

    def __init__(self, policy: Policy, status: PolicyStatus | None = None) -> None:
        self.current = policy
        #: Of `current`; whoever swaps tells it too.
        self.status = status or PolicyStatus(digest=policy.digest, since_s=0.0, files_digest=policy.digest)

    def swap(self, policy: Policy) -> Policy:
        """Put a compiled policy in force; returns the one it replaces."""
        before, self.current = self.current, policy
        return before


_RELEASE = "the files wait for `breakeven policy release`"


def _named(refused: Refused) -> str:
    """The first errors, each with its place, and how many more there are."""
    errors = refused.errors
    more = len(errors) - _NAMED
    named = "; ".join(_one_line(str(finding)) for finding in errors[:_NAMED])
    return f"{named}; and {more} more" if more > 0 else named


def _one_line(text: str) -> str:
    return " ".join(text.split())
