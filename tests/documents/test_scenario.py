"""Scenarios as people write them (`app.documents.scenario`, `app.documents.scenario_values`), run at every load."""

from __future__ import annotations

from datetime import date
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.documents.compile import compile_policy, compile_untested, finding_of
from app.documents.scenario import FilterName, WrittenTime, day_of
from app.domain.errors import PolicyInvalid
from app.domain.findings import Severity
from app.domain.routing.filters import FILTERS
from app.domain.routing.scenario import Scenario, run_scenarios
from app.domain.target import Circuit
from tests.documents.good import GOOD, findings_of, told


def scenarios(*lines: str) -> dict[str, str]:
    return {"policy.yaml": GOOD, "scenarios.yaml": "scenarios:\n" + "".join(f"{line}\n" for line in lines)}


def one(given: str, expect: str = "{first: gpu-a}", name: str = "s") -> dict[str, str]:
    return scenarios(f"  - name: {name}", f"    given: {given}", f"    expect: {expect}")


def place_of(written: str, files: dict[str, str]) -> str:
    """`file:line:column` of what is written in the scenarios; of its last place there."""
    before = files["scenarios.yaml"].rpartition(written)[0]
    return f"scenarios.yaml:{before.count(chr(10)) + 1}:{len(before.rpartition(chr(10))[2]) + 1}"


def only(files: dict[str, str]) -> Scenario:
    (scenario,) = compile_policy(files).scenarios
    return scenario


def test_a_policy_without_scenarios_has_none() -> None:
    assert compile_policy({"policy.yaml": GOOD}).scenarios == ()
    assert compile_policy(scenarios()).scenarios == ()


def test_a_scenario_that_says_nothing_of_the_world_meets_a_quiet_monday_noon() -> None:
    scenario = only(one("{model: chat}"))
    assert scenario.at.isoformat() == "2026-11-23T12:00:00+01:00"
    assert scenario.facts.request_id == "scenario: s"
    assert scenario.facts.prompt_tokens == 500
    assert scenario.facts.caller.team == ""
    assert scenario.fleet == {}
    assert (scenario.file, scenario.line, scenario.column) == ("scenarios.yaml", 2, 5)


def test_everything_that_is_written_stands_on_the_facts() -> None:
    request = (
        "{request_id: r1, endpoint: completions, stream: true, prompt_tokens: 7, output_tokens_most: 9, "
        '"n": 2, has_tools: false, json_schema: false, data_class: public, deadline_s: 1.5, priority: -1, '
        "tags: [x], session: c1, prefix_tokens: 3}"
    )
    caller = "{key: k1, team: legal, cost_centre: cc-1, tags: [vip]}"
    facts = only(one(f"{{model: chat, caller: {caller}, request: {request}}}")).facts
    assert (facts.request_id, facts.endpoint.value, facts.stream, facts.prompt_tokens) == ("r1", "completions", True, 7)
    assert (facts.output_tokens_most, facts.n, facts.data_class, facts.deadline_s) == (9, 2, "public", 1.5)
    assert (facts.priority, facts.tags, facts.session, facts.prefix_tokens) == (-1, ("x",), "c1", 3)
    caller_seen = facts.caller
    assert (caller_seen.key_id, caller_seen.team, caller_seen.cost_centre, caller_seen.tags) == (
        "k1",
        "legal",
        "cc-1",
        ("vip",),
    )


def test_everything_that_is_written_stands_on_the_fleet() -> None:
    fleet = (
        "{in_flight: 3, waiting: 2, saturation: 0.5, predicted_ttft_ms: 250, age_s: 1, circuit: half_open, "
        "credential: absent, serves_instead: llama, requests_left: 4, tokens_left: 5, price: unknown}"
    )
    seen = only(one(f"{{model: chat, fleet: {{hosted: {fleet}}}}}")).fleet["hosted"]
    assert (seen.in_flight, seen.waiting, seen.saturation, seen.predicted_ttft_ms) == (3, 2, 0.5, 250.0)
    assert (seen.age_s, seen.circuit, seen.credential_present) == (1.0, Circuit.HALF_OPEN, False)
    assert (seen.serves_instead, seen.requests_left, seen.tokens_left) == ("llama", 4, 5)
    assert seen.rate_card is None


def test_money_spilled_before_is_written_in_dollars() -> None:
    assert only(one("{model: chat, spill_spent_usd: 2.5}")).spill_spent == 2_500_000_000


def test_a_failing_scenario_keeps_the_policy_from_going_live_at_its_line() -> None:
    files = scenarios(
        "  - name: right",
        "    given: {model: chat}",
        "    expect: {first: gpu-a}",
        "  - name: wrong",
        "    given: {model: chat, fleet: {gpu-a: {circuit: open}}}",
        "    expect: {first: gpu-a}",
    )
    with pytest.raises(PolicyInvalid) as refused:
        compile_policy(files)
    (finding,) = refused.value.findings
    assert (finding.file, finding.line, finding.column, finding.code) == ("scenarios.yaml", 5, 5, "scenario")
    assert finding.severity is Severity.ERROR
    assert 'the scenario "wrong" fails: expected "gpu-a" first, but rule "otherwise" gives hosted' in finding.message
    untested = compile_untested(files)
    verdicts = run_scenarios(untested.scenarios, untested.policy)
    assert [verdict.passed for verdict in verdicts] == [True, False]
    assert finding_of(verdicts[1]) == finding


def test_a_scenario_runs_in_the_timezone_of_the_policy() -> None:
    files = one("{model: chat, time: {hour: 3, minute: 4, date: 2026-07-01}}")
    assert only(files).at.isoformat() == "2026-07-01T03:04:00+02:00"


@given(day=st.dates(date(2020, 1, 1), date(2040, 1, 1)), weekday=st.integers(1, 7))
def test_a_date_stands_with_its_own_weekday_alone(day: date, weekday: int) -> None:
    both = day_of(WrittenTime(date=day.isoformat(), weekday=weekday))
    assert both == (day if weekday == day.isoweekday() else None)
    assert day_of(WrittenTime(date=day.isoformat())) == day
    alone = day_of(WrittenTime(weekday=weekday))
    assert alone is not None
    assert alone.isoweekday() == weekday


def test_every_filter_of_a_decision_can_be_expected() -> None:
    assert get_args(FilterName) == (*(name for name, _ in FILTERS), "spill", "spill_cap", "budget")


WRONG_SHAPES = [
    ("{modl: chat}", "{first: gpu-a}", "modl", "unknown-key"),
    ("{}", "{first: gpu-a}", "given", "missing"),
    ("{model: chat, caller: {temm: x}}", "{first: gpu-a}", "temm", "unknown-key"),
    ("{model: chat, request: {prompt_tokens: x}}", "{first: gpu-a}", "x}}", "shape"),
    ("{model: chat, request: {model: x}}", "{first: gpu-a}", "model: x", "unknown-key"),
    ("{model: chat, time: {hour: 24}}", "{first: gpu-a}", "24", "shape"),
    ("{model: chat, time: {weekday: 0}}", "{first: gpu-a}", "0}}", "shape"),
    ("{model: chat, time: {date: 2026-13-01}}", "{first: gpu-a}", "2026-13", "shape"),
    ("{model: chat, time: {date: 20261101}}", "{first: gpu-a}", "20261101", "shape"),
    ("{model: chat, fleet: {gpu-a: {circuit: opn}}}", "{first: gpu-a}", "opn", "word"),
    ("{model: chat, fleet: {gpu-a: {in_flight: -1}}}", "{first: gpu-a}", "-1", "shape"),
    ("{model: chat, spill_spent_usd: lots}", "{first: gpu-a}", "lots", "shape"),
    ("{model: chat}", "{refused: yes please}", "yes please", "word"),
    ("{model: chat}", "{filter: {gpu-a: rooom}}", "rooom", "word"),
    ("{model: chat}", "{never: []}", "[]", "empty"),
    ("{model: chat}", "first", "first", "shape"),
]


@pytest.mark.parametrize(("given_text", "expect", "at_fault", "code"), WRONG_SHAPES)
def test_a_wrong_shape_is_told_at_its_place(given_text: str, expect: str, at_fault: str, code: str) -> None:
    files = one(given_text, expect)
    assert told(files) == [(place_of(at_fault, files), code)]


def test_scenarios_are_a_list() -> None:
    assert told({"policy.yaml": GOOD, "s.yaml": "scenarios: {a: 1}\n"}) == [("s.yaml:1:12", "shape")]


def test_a_name_given_twice_over_all_files_is_told_at_the_second() -> None:
    files = one("{model: chat}")
    files["zz.yaml"] = files["scenarios.yaml"]
    (finding,) = findings_of(files)
    assert (finding.file, finding.line, finding.code) == ("zz.yaml", 2, "duplicate-name")
    assert "scenarios.yaml:2" in finding.message


def test_faults_of_scenarios_are_told_with_those_of_the_rest() -> None:
    files = one("{model: chat, time: {hour: 24}}")
    files["policy.yaml"] = GOOD.replace("engine: vllm", "engine: vlm")
    assert {code for _, code in told(files)} == {"word", "shape"}
