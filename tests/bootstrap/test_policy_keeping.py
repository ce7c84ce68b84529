"""app.bootstrap.policy_keeping: what the log says of edits."""

from __future__ import annotations

import logging

import pytest

from app.bootstrap.policy_keeping import PolicyLog
from app.domain.findings import Finding, Severity
from app.live.policy_slot import Refused


def _finding(line: int, severity: Severity) -> Finding:
    return Finding(file="a.yaml", line=line, column=1, severity=severity, code="x", message=f"line {line}")


def test_the_log_tells_first_what_forbids_an_edit(caplog: pytest.LogCaptureFixture) -> None:
    findings = (_finding(1, Severity.WARNING), _finding(2, Severity.ERROR), _finding(3, Severity.ERROR))
    with caplog.at_level(logging.ERROR, logger="breakeven"):
        PolicyLog().policy_refused(Refused(digest="d", findings=findings, since_s=0.0), stays="before")
    (record,) = caplog.records
    told: str = record.__dict__["fields"]["findings"]
    assert [line.split(":")[1] for line in told.splitlines()] == ["2", "3", "1"]
