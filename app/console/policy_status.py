"""How the policy came to be in force, as plain values."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from app.domain.findings import Finding, finding_view
from app.live.policy_slot import PolicyStatus, Refused


def status_view(status: PolicyStatus) -> dict[str, object]:
    """A JSON-ready mapping: what is in force since when, what is pinned, what was refused and why."""
    pin = status.pin
    return {
        "digest": status.digest,
        "since": _moment(status.since_s),
        "files_digest": status.files_digest,
        "pinned": None if pin is None else {"digest": pin.digest, "by": pin.by, "at": _moment(pin.pinned_at_s)},
        "warning": status.warning(),
        "findings": _findings(status.findings),
        "refused": _refused(status.refused),
        "pin_refused": _refused(status.pin_refused),
        "reloads": status.reloads,
    }


def _refused(refused: Refused | None) -> dict[str, object] | None:
    if refused is None:
        return None
    return {
        "digest": refused.digest,
        "since": _moment(refused.since_s),
        "findings": _findings(refused.findings),
    }


def _findings(findings: Iterable[Finding]) -> list[dict[str, object]]:
    return [finding_view(finding) for finding in findings]


def _moment(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
