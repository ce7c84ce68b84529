from __future__ import annotations

from dataclasses import replace

from app.domain.findings import Finding, Severity
from app.live.policy_slot import PolicySlot, PolicyStatus, Refused
from app.ports import Pin
from tests.makers import a_policy

STATUS = PolicyStatus(digest="aaaa", since_s=0.0, files_digest="aaaa")


def an_error(line: int, *, severity: Severity = Severity.ERROR) -> Finding:
    return Finding(
        file="models.yaml", line=line, column=1, severity=severity, code="c", message="it is\nwrong", mend="mend it"
    )


def test_a_swap_puts_the_new_policy_in_force_and_returns_the_old_one() -> None:
    old, new = a_policy(), replace(a_policy(), digest="new")
    slot = PolicySlot(old)
    assert slot.status.digest == old.digest
    assert slot.swap(new) is old
    assert slot.current is new


def test_a_policy_from_the_files_is_nothing_to_warn_of() -> None:
    assert STATUS.warning() is None


def test_refused_files_are_told_in_one_line_with_their_first_errors_and_what_stays_in_force() -> None:
    findings = (an_error(9, severity=Severity.WARNING), *(an_error(line) for line in (3, 4, 5, 6, 7)))
    warning = replace(STATUS, refused=Refused(digest="bbbb", findings=findings, since_s=0.0)).warning()
    assert warning is not None
    assert warning.startswith("the files were refused: models.yaml:3:1: error: it is wrong (mend it); models.yaml:4:1")
    assert warning.endswith("models.yaml:5:1: error: it is wrong (mend it); and 2 more; digest aaaa stays in force")


def test_a_pin_is_told_with_the_way_to_release_it() -> None:
    warning = replace(STATUS, pin=Pin(digest="aaaa", by="ada", pinned_at_s=0.0)).warning()
    assert warning is not None
    assert "pinned by ada" in warning
    assert "`breakeven policy release`" in warning


def test_a_pinned_revision_that_may_not_go_live_is_told_apart_from_the_files() -> None:
    refused = Refused(digest="bbbb", findings=(an_error(3),), since_s=0.0)
    warning = replace(STATUS, pin=Pin(digest="bbbb", by="ada", pinned_at_s=0.0), pin_refused=refused).warning()
    assert warning is not None
    assert warning.startswith("the pinned revision was refused: models.yaml:3:1")
    assert warning.endswith("digest aaaa stays in force")
