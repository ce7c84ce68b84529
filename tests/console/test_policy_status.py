from __future__ import annotations

import json

from app.console.policy_status import status_view
from app.domain.findings import Finding, Severity
from app.live.policy_slot import PolicyStatus, Refused
from app.ports import Pin
from tests.makers import NOON

NOON_S = NOON.timestamp()


def a_status_with_faults() -> PolicyStatus:
    finding = Finding(
        file="models.yaml",
        line=3,
        column=1,
        severity=Severity.ERROR,
        code="yaml",
        message="this `{` is not closed",
        mend="close it with `}`",
    )
    return PolicyStatus(
        digest="0123456789abcdef",
        since_s=NOON_S,
        refused=Refused(digest="fedcba9876543210", findings=(finding,), since_s=NOON_S + 60),
        reloads=4,
    )


def test_a_status_shows_what_was_refused_with_its_place_and_its_mend() -> None:
    view = status_view(a_status_with_faults())
    assert json.loads(json.dumps(view)) == view
    assert view["since"] == "2026-11-23T12:00:00Z"
    assert view["reloads"] == 4
    assert view["refused"] == {
        "digest": "fedcba9876543210",
        "since": "2026-11-23T12:01:00Z",
        "findings": [
            {
                "file": "models.yaml",
                "line": 3,
                "column": 1,
                "severity": "error",
                "code": "yaml",
                "message": "this `{` is not closed",
                "mend": "close it with `}`",
            }
        ],
    }


def test_a_status_shows_who_pinned_what_and_when() -> None:
    pin = Pin(digest="0123456789abcdef", by="ada", pinned_at_s=NOON_S)
    view = status_view(PolicyStatus(digest=pin.digest, since_s=NOON_S, pin=pin, files_digest="fedcba9876543210"))
    assert view["pinned"] == {"digest": "0123456789abcdef", "by": "ada", "at": "2026-11-23T12:00:00Z"}
    assert (view["files_digest"], view["refused"]) == ("fedcba9876543210", None)
