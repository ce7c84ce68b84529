"""What was in force and what was offered, and going back to it: an old revision is pinned until it is released."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from app.domain.errors import PolicyInvalid
from app.domain.findings import Finding
from app.flows.policy_archive import PolicyArchive, compiled_policy, find_revision
from app.ports import Pin, Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyPast:
    """The newest revisions first, and the pin, if there is one."""

    revisions: Sequence[Revision]
    pin: Pin | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack:
    """A revision that is pinned now, what today's language has to say of it, and the pin that it replaced."""

    revision: Revision
    pin: Pin
    warnings: tuple[Finding, ...]
    before: Pin | None


async def policy_past(archive: PolicyArchive, *, most: int) -> PolicyPast:
    """Raises BooksAway."""
    return PolicyPast(revisions=await archive.history.latest(most=most), pin=await archive.history.pinned())


async def roll_back(archive: PolicyArchive, digest: str, *, by: str) -> RolledBack:
    """Pin the revision of that digest, or of a beginning of it: every gateway takes it up within seconds and keeps it,
    whatever the files say, until `release_pin`.

    It is compiled under today's language first. Raises NotValid with every finding when it may not go live now, and
    nothing has changed then; RevisionUnknown; BooksAway.
    """
    revision = await find_revision(archive, digest)
    compiled = await compiled_policy(archive, revision.digest)
    before = await archive.history.pinned()
    pin = Pin(digest=revision.digest, by=by, pinned_at_s=archive.now_s())
    await archive.history.pin(pin)
    return RolledBack(revision=revision, pin=pin, warnings=compiled.findings, before=before)


async def release_pin(archive: PolicyArchive) -> Pin | None:
    """The files decide again. The pin that was released, or None when there was none. Raises BooksAway."""
    before = await archive.history.pinned()
    return before if await archive.history.release() else None


async def findings_today(archive: PolicyArchive, revision: Revision) -> tuple[Finding, ...]:
    """What today's language says of a revision, errors too. Never raises for a revision."""
    try:
        return (await archive.compiled(revision.files)).findings
    except PolicyInvalid as fault:
        return tuple(fault.findings)


def revision_view(revision: Revision, *, pin: Pin | None, with_files: bool = False) -> dict[str, object]:
    """A revision as a JSON-ready mapping. Times are ISO 8601 in UTC."""
    view: dict[str, object] = {
        "digest": revision.digest,
        "seen_at": moment_of(revision.seen_at_s),
        "author": revision.author,
        "in_force_at": None if revision.in_force_at_s is None else moment_of(revision.in_force_at_s),
        "pinned": pin is not None and pin.digest == revision.digest,
        "files": sorted(revision.files),
        "findings": list(revision.findings),
    }
    if with_files:
        view["files"] = {name: as_text(text) for name, text in sorted(revision.files.items())}
    return view


def pin_view(pin: Pin | None) -> dict[str, object] | None:
    """The pin as a JSON-ready mapping."""
    if pin is None:
        return None
    return {"digest": pin.digest, "by": pin.by, "pinned_at": moment_of(pin.pinned_at_s)}


def moment_of(at_s: float) -> str:
    """Unix seconds as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def as_text(text: str) -> str:
    """A file's text for people: a byte that was not UTF-8 is shown as a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")
