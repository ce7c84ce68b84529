"""`breakeven policy test` (`app.cli.policy_test`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.policy_test import verdict_view
from app.documents.compile import compile_untested
from app.domain.routing.scenario import run_scenarios
from tests.command_line import ROOT, HereAtOnce
from tests.documents.good import GOOD

RIGHT = """\
scenarios:
  - name: legal stays home
    given: {model: chat, caller: {team: legal}}
    expect: {rule: legal stays home}
"""
WRONG = RIGHT.replace("{rule: legal stays home}", "{first: hosted}")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> HereAtOnce:
    monkeypatch.chdir(ROOT)
    return HereAtOnce(url="", data=tmp_path / "data", monkeypatch=monkeypatch, capsys=capsys)


def written(directory: Path, scenarios: str) -> str:
    (directory / "policy.yaml").write_text(GOOD)
    (directory / "scenarios.yaml").write_text(scenarios)
    return str(directory)


def test_every_scenario_is_told_with_what_it_gave(desk: HereAtOnce, tmp_path: Path) -> None:
    ran = desk("policy", "test", written(tmp_path, RIGHT))
    assert ran.status == 0
    assert "scenarios.yaml:2" in ran.out
    assert "gpu-a" in ran.out
    assert ran.out.splitlines()[-1] == "1 scenarios, 0 failed"


def test_a_scenario_that_fails_is_told_with_its_line_and_fails_the_command(desk: HereAtOnce, tmp_path: Path) -> None:
    ran = desk("policy", "test", written(tmp_path, WRONG))
    assert ran.status == 1
    assert 'scenarios.yaml:2: legal stays home: expected "hosted" first, but rule' in ran.out
    assert ran.out.splitlines()[-1] == "1 scenarios, 1 failed"
    assert "what they expect in scenarios.yaml (policies/README.md, `scenarios`)" in ran.err
    checked = desk("policy", "check", str(tmp_path)).out
    assert checked.startswith('scenarios.yaml:2:5: error: the scenario "legal stays home" fails: expected "hosted"')
    assert "what this one expects in scenarios.yaml; `breakeven policy test` runs them all" in checked
    mutated = desk("policy", "test", str(tmp_path), "--mutate")
    assert mutated.status == 1
    assert "mend them first" in mutated.err


def test_survivors_are_named_with_file_and_line(desk: HereAtOnce, tmp_path: Path) -> None:
    ran = desk("policy", "test", written(tmp_path, RIGHT), "--mutate")
    assert ran.status == 0
    assert 'policy.yaml:28:9: survived: rule "otherwise": `prefer: cheapest` became `listed`' in ran.out
    assert "% of" in ran.out.splitlines()[-1]


def test_a_score_below_the_least_fails_the_command(desk: HereAtOnce, tmp_path: Path) -> None:
    directory = written(tmp_path, RIGHT)
    assert desk("policy", "test", directory, "--mutate", "--least", "100").status == 1
    assert desk("policy", "test", directory, "--mutate", "--least", "1").status == 0
    assert desk("policy", "test", directory, "--least", "1").status == 2


def test_programs_get_verdicts_and_the_score(desk: HereAtOnce, tmp_path: Path) -> None:
    ran = desk("policy", "test", written(tmp_path, RIGHT), "--json", "--mutate")
    assert ran.value["passed"] is True
    assert ran.value["scenarios"][0]["order"] == ["gpu-a"]
    mutation = ran.value["mutation"]
    assert mutation["counted"] == mutation["caught"] + mutation["survived"] + mutation["refused"]
    assert len(mutation["survivors"]) == mutation["survived"]
    failed = desk("policy", "test", written(tmp_path, WRONG), "--json")
    assert failed.status == 1
    assert failed.value["passed"] is False
    assert failed.value["mutation"] is None


def test_a_policy_that_is_not_valid_is_told_with_its_findings(desk: HereAtOnce, tmp_path: Path) -> None:
    directory = written(tmp_path, RIGHT.replace("chat", "chatt"))
    ran = desk("policy", "test", directory)
    assert ran.status == 1
    assert ran.out.startswith('scenarios.yaml:3:20: error: there is no model "chatt"')
    told = desk("policy", "test", directory, "--json")
    assert told.status == 1
    assert told.value["findings"][0]["code"] == "unknown-model"


def test_a_policy_without_scenarios_is_no_failure_but_says_so(desk: HereAtOnce, tmp_path: Path) -> None:
    ran = desk("policy", "test", written(tmp_path, "scenarios:\n"))
    assert ran.status == 0
    assert ran.out.startswith("no file has any scenarios")


def test_a_refusal_is_plain_values_too() -> None:
    refused = RIGHT.replace("team: legal}", "team: legal}, fleet: {gpu-a: {circuit: open}}")
    compiled = compile_untested({"policy.yaml": GOOD, "scenarios.yaml": refused})
    (verdict,) = run_scenarios(compiled.scenarios, compiled.policy)
    view = verdict_view(verdict)
    assert (view["refused"], view["order"], view["rule"]) == ("no_target", [], "legal stays home")
