"""Requests that nobody made (`app.flows.policy_dry_run`), and candidate files (`app.flows.policy_check`)."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from app.documents.compile import compile_policy, digest_of
from app.domain.errors import BadRequest
from app.domain.routing.plan import Plan
from app.flows.policy_check import check_files, checked_view
from app.flows.policy_dry_run import dry_run, dry_run_view
from tests.archive import BROKEN, FILES, MODELS, Cellar
from tests.makers import NOON, a_caller, some_facts

SCENARIOS = """
scenarios:
  - name: legal stays home
    given: {model: chat, caller: {team: legal}}
    expect: {rule: legal stays home, never: [api]}
  - name: others may leave
    given: {model: chat, fleet: {home: {circuit: open}}}
    expect: {first: FIRST}
"""


def test_on_a_quiet_day_every_target_is_idle_in_service_and_priced() -> None:
    made = dry_run(compile_policy(FILES).policy, some_facts(), at=NOON)
    assert isinstance(made.decision, Plan)
    assert made.decision.order == ("home", "api")
    assert all(candidate.seen.rate_card is not None for candidate in made.decision.candidates)
    view = json.loads(json.dumps(dry_run_view(made)))
    assert view["policy"] == digest_of(FILES)
    assert view["decision"]["rule"] == "everybody"
    assert view["decision"]["sentences"]


def test_the_facts_decide_and_the_hour_is_that_of_the_policys_timezone() -> None:
    models = MODELS.replace('caller.team == "legal"', "time.hour == 9").replace(
        "models:", "timezone: Asia/Tokyo\nmodels:"
    )
    policy = compile_policy({**FILES, "models.yaml": models}).policy
    midnight = datetime(2026, 11, 23, 0, 30, tzinfo=UTC)
    assert dry_run(policy, some_facts(), at=midnight).decision.rule == "legal stays home"
    assert dry_run(policy, some_facts(), at=NOON).decision.rule == "everybody"
    assert dry_run(compile_policy(FILES).policy, some_facts(caller=a_caller(team="legal")), at=NOON).decision.rule == (
        "legal stays home"
    )


def test_the_same_dry_run_comes_out_the_same() -> None:
    models = MODELS.replace("[home, api]", "[home, api]\n        prefer: {weighted: {home: 1, api: 1}}")
    policy = compile_policy({**FILES, "models.yaml": models}).policy
    assert dry_run(policy, some_facts(), at=NOON) == dry_run(policy, some_facts(), at=NOON)


def test_a_model_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(BadRequest, match='no model "nope"; it has chat'):
        dry_run(compile_policy(FILES).policy, some_facts(model="nope"), at=NOON)


async def test_candidate_files_are_judged_with_every_finding_and_scenario() -> None:
    archive = Cellar().archive()
    good = await check_files(archive, {**FILES, "scenarios.yaml": SCENARIOS.replace("FIRST", "api")})
    assert good.is_valid
    assert [verdict.passed for verdict in good.verdicts] == [True, True]
    wrong = await check_files(archive, {**FILES, "scenarios.yaml": SCENARIOS.replace("FIRST", "home")})
    assert not wrong.is_valid
    assert [verdict.passed for verdict in wrong.verdicts] == [True, False]
    view = json.loads(json.dumps(checked_view(wrong)))
    assert view["scenarios"][1]["differences"]
    assert (view["scenarios"][1]["file"], view["scenarios"][1]["line"]) == ("scenarios.yaml", 6)
    assert [finding["code"] for finding in view["findings"] if finding["severity"] == "error"] == ["scenario"]


async def test_files_with_errors_have_no_verdicts() -> None:
    checked = await check_files(Cellar().archive(), {**BROKEN, "scenarios.yaml": SCENARIOS.replace("FIRST", "home")})
    assert (checked.is_valid, checked.verdicts, checked.digest != "") == (False, (), True)
    assert any("apo" in finding.message for finding in checked.findings)
