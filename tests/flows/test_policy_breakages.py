"""Every way we know to break the policy's directory: refused by file and line, and the policy in force stays."""

from __future__ import annotations

import pytest

from app.domain.findings import Finding
from app.live.policy_slot import PolicyStatus
from tests.flows.breakages import BREAKAGES, ODD_BUT_GOOD
from tests.flows.policy_house import GOOD, House, digest, house, looks_more, refused, until

__all__ = ["house"]


@pytest.mark.parametrize("what", BREAKAGES)
async def test_what_is_broken_is_refused_by_file_and_line_and_the_old_policy_stays(what: str, house: House) -> None:
    how, place, code = BREAKAGES[what]
    async with house.kept() as slot:
        before = slot.current
        how(house.directory)
        await until(lambda: slot.status.refused)
        assert slot.current is before
    errors = refused(slot).errors
    assert (place, code) in [(_place(one, house), one.code) for one in errors], [str(one) for one in errors]
    assert all(len(str(one)) < 600 for one in errors), "a finding is read by people"
    assert house.told.heard == [("in force", digest(GOOD)), ("refused", refused(slot).digest)]
    assert str(errors[0]).splitlines()[0] in (slot.status.warning() or "")


def _place(finding: Finding, house: House) -> str:
    file = finding.file.replace(str(house.directory), "DIRECTORY")
    return f"{file}:{finding.line}" if finding.line else file


def test_there_are_more_than_fifty_ways() -> None:
    assert len(BREAKAGES) >= 50


@pytest.mark.parametrize("what", ODD_BUT_GOOD)
async def test_what_is_odd_but_whole_goes_live(what: str, house: House) -> None:
    async with house.kept() as slot:
        ODD_BUT_GOOD[what](house.directory)
        await looks_more(house)
        status: PolicyStatus = slot.status
    assert status.refused is None
    assert status.files_digest == slot.current.digest
