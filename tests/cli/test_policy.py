"""`breakeven policy check` (`app.cli.policy`)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from app.cli.policy import finding_view
from app.domain.findings import Finding, Severity
from tests.command_line import ROOT, HereAtOnce


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> HereAtOnce:
    monkeypatch.chdir(ROOT)
    return HereAtOnce(url="", data=tmp_path / "data", monkeypatch=monkeypatch, capsys=capsys)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """The shipped policy with a target in a rule that nobody wrote down."""
    directory = tmp_path / "policies"
    shutil.copytree(ROOT / "policies", directory)
    models = directory / "models.yaml"
    models.write_text(models.read_text().replace("use: [cpu-worker, openai]", "use: [cpu-worker, opnai]"))
    return directory


def test_the_shipped_policy_is_valid(desk: HereAtOnce) -> None:
    ran = desk("policy", "check")
    assert ran.status == 0
    assert ran.out.startswith("0 errors, 0 warnings: valid, digest ")
    assert desk("policy", "check", "--json").value["valid"] is True


def test_a_target_that_waits_for_its_measurement_is_told_beside_the_result(desk: HereAtOnce) -> None:
    (told,) = desk("policy", "check").err.splitlines()
    assert told.startswith("cpu-worker has no price in the policy: without a measured one it takes no traffic")
    assert "`breakeven calibrate cpu-worker`" in told


def test_a_directory_that_is_not_there_is_one_error(desk: HereAtOnce, tmp_path: Path) -> None:
    lines = desk("policy", "check", str(tmp_path / "nowhere")).out.splitlines()
    assert "there is no such directory" in lines[0]
    assert lines[-1].startswith("1 error, 0 warnings")


def test_a_fault_is_told_with_file_and_line_and_fails(desk: HereAtOnce, broken: Path) -> None:
    ran = desk("policy", "check", str(broken))
    assert ran.status == 1
    assert "models.yaml:" in ran.out
    assert "opnai" in ran.out
    assert ran.out.splitlines()[-1].endswith("not valid: the gateway would refuse it")
    assert ran.err == ""


def test_programs_and_pull_requests_get_findings_too(desk: HereAtOnce, broken: Path) -> None:
    told = desk("policy", "check", str(broken), "--format", "json")
    assert told.status == 1
    assert told.value["valid"] is False
    assert "models.yaml" in {finding["file"] for finding in told.value["findings"]}
    annotated = desk("policy", "check", str(broken), "--format", "github").out.splitlines()
    assert any(line.startswith("::error file=models.yaml,line=") for line in annotated)


def test_a_directory_without_policies_and_a_file_that_cannot_be_read_are_findings(
    desk: HereAtOnce, tmp_path: Path
) -> None:
    ran = desk("policy", "check", str(tmp_path))
    assert ran.status == 1
    assert ran.out.startswith(f"{tmp_path}: error: there are no *.yaml files in {tmp_path} (copy the shipped")
    (tmp_path / "models.yaml").symlink_to("nowhere")
    ran = desk("policy", "check", str(tmp_path))
    assert ran.status == 1
    assert ran.out.startswith("models.yaml: error: ")


def test_a_finding_is_plain_values() -> None:
    finding = Finding(file="a.yaml", line=3, column=1, severity=Severity.ERROR, code="x", message="m", mend="do")
    assert finding_view(finding)["severity"] == "error"
    assert finding_view(finding)["line"] == 3
