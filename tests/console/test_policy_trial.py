"""Checks, dry runs and explanations over the console (`app.console.policy_trial`, `app.console.policy_forms`)."""

from __future__ import annotations

from io import BytesIO

import pytest

from app.console.policy_forms import LARGEST_POLICY_BYTES, DryRunForm
from app.console.problems import LARGEST_BODY_BYTES
from app.documents.compile import compile_policy, digest_of
from app.domain.routing.facts import Endpoint
from tests.archive import BROKEN, FILES, MODELS, TURNED
from tests.console.served import House, console
from tests.flows.test_policy_moves import a_request

SCENARIOS = """
scenarios:
  - name: legal stays home
    given: {model: chat, caller: {team: legal}}
    expect: {rule: legal stays home, first: TARGET}
"""


def a_house() -> House:
    return House(policy=compile_policy(FILES).policy)


async def test_candidate_files_are_judged_and_nothing_goes_in_force() -> None:
    async with console(a_house()) as it:
        good = await it.ask("POST", "/api/policy/check", json={"files": dict(TURNED)})
        bad = await it.ask("POST", "/api/policy/check", json={"files": dict(BROKEN)})
        listed = await it.get("/api/policy/history")
        shown = await it.get("/api/policy")
    assert (good.status, good.json["valid"], good.json["digest"]) == (200, True, digest_of(TURNED))
    assert (bad.status, bad.json["valid"]) == (200, False)
    assert any("apo" in finding["message"] and finding["line"] == 8 for finding in bad.json["findings"])
    assert (listed.json["revisions"], shown.json["digest"]) == ([], digest_of(FILES))


async def test_each_scenario_gets_its_verdict() -> None:
    async with console(a_house()) as it:
        files = {**FILES, "scenarios.yaml": SCENARIOS.replace("TARGET", "api")}
        answer = await it.ask("POST", "/api/policy/check", json={"files": files})
    assert answer.json["valid"] is False
    (scenario,) = answer.json["scenarios"]
    assert (scenario["name"], scenario["passed"], scenario["file"]) == ("legal stays home", False, "scenarios.yaml")
    assert scenario["differences"]


async def test_policy_text_may_be_longer_than_other_bodies_but_not_without_end() -> None:
    long = {**FILES, "models.yaml": MODELS + "# long\n" * (LARGEST_BODY_BYTES // 5)}
    async with console(a_house()) as it:
        answer = await it.ask("POST", "/api/policy/check", json={"files": long})
        too_long = await it.ask("POST", "/api/policy/check", data=BytesIO(b" " * (LARGEST_POLICY_BYTES + 1)))
    assert (answer.status, answer.json["valid"]) == (200, True)
    assert (too_long.status, too_long.json["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "files"),
        ({"files": {}}, "files"),
        ({"files": {"../../etc/passwd": ""}}, "files"),
        ({"files": {"models.json": ""}}, "files"),
        ({"files": {".hidden.yaml": ""}}, "files"),
        ({"files": {"models.yaml": 1}}, "files"),
        ({"files": {f"{number}.yaml": "" for number in range(300)}}, "files"),
        ({"files": dict(FILES), "operator": True}, "operator"),
    ],
)
async def test_what_is_no_set_of_files_is_a_400(body: dict[str, object], param: str) -> None:
    async with console(a_house()) as it:
        answer = await it.ask("POST", "/api/policy/check", json=body)
    assert answer.status == 400
    assert answer.json["error"]["param"].split(".")[0] == param


async def test_a_dry_run_decides_by_the_policy_in_force_or_by_the_files_that_come_with_it() -> None:
    wish = {
        "model": "chat",
        "caller": {"team": "research", "tags": ["eu"]},
        "request": {"endpoint": "chat", "stream": True, "prompt_tokens": 10, "deadline_s": 3, "tags": ["a"]},
        "at": "2026-11-23T02:00:00+01:00",
    }
    async with console(a_house()) as it:
        now = await it.ask("POST", "/api/policy/dry-run", json=wish)
        then = await it.ask("POST", "/api/policy/dry-run", json={**wish, "files": dict(TURNED)})
        legal = await it.ask("POST", "/api/policy/dry-run", json={**wish, "caller": {"team": "legal"}})
    assert (now.status, now.json["decision"]["order"]) == (200, ["home", "api"])
    assert now.json["at"] == "2026-11-23T01:00:00+00:00"
    assert now.json["facts"]["caller"]["tags"] == ["eu"]
    assert (then.json["policy"], then.json["decision"]["order"]) == (digest_of(TURNED), ["api", "home"])
    assert legal.json["decision"]["rule"] == "legal stays home"
    assert any("legal stays home" in sentence for sentence in legal.json["decision"]["sentences"])


async def test_a_dry_run_on_files_that_are_no_policy_is_a_422_with_findings() -> None:
    async with console(a_house()) as it:
        answer = await it.ask("POST", "/api/policy/dry-run", json={"model": "chat", "files": dict(BROKEN)})
    assert (answer.status, answer.json["error"]["code"]) == (422, "policy_invalid")
    assert any("apo" in finding["message"] for finding in answer.json["findings"])


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        ({}, "model"),
        ({"model": "nope"}, "model"),
        ({"model": "chat", "at": "2026-11-23T02:00:00"}, "at"),
        ({"model": "chat", "request": {"prompt_tokens": -1}}, "request.prompt_tokens"),
        ({"model": "chat", "request": {"prompt_tokens": "9"}}, "request.prompt_tokens"),
        ({"model": "chat", "request": {"endpoint": "telnet"}}, "request.endpoint"),
        ({"model": "chat", "request": {"request_id": "mine"}}, "request.request_id"),
        ({"model": "chat", "caller": {"models": ["*"]}}, "caller.models"),
        ({"model": "chat", "caller": {"team": "x" * 201}}, "caller.team"),
    ],
)
async def test_what_is_no_request_names_the_field(wish: dict[str, object], param: str) -> None:
    async with console(a_house()) as it:
        answer = await it.ask("POST", "/api/policy/dry-run", json=wish)
    assert (answer.status, answer.json["error"]["param"]) == (400, param)


async def test_a_past_request_is_explained_and_says_whether_it_comes_out_the_same() -> None:
    receipt = a_request(1)
    async with console(a_house()) as it:
        await it.house.book(receipt)
        without = await it.get(f"/api/policy/explain/{receipt.request_id}")
        await it.house.cellar.remember(FILES)
        answer = await it.get(f"/api/policy/explain/{receipt.request_id}")
        nobody = await it.get("/api/policy/explain/no-such-id")
    assert without.json["replay"]["verdict"] == "no_revision"
    assert (answer.status, answer.json["replay"]["verdict"]) == (200, "same")
    assert answer.json["revision"]["author"] == "Ada"
    assert answer.json["decision"]["candidates"][0]["target"] == "home"
    assert (nobody.status, nobody.json["error"]["code"]) == (404, "not_found")


def test_a_form_left_empty_is_a_plain_request_of_nobody() -> None:
    facts = DryRunForm(model="chat").facts()
    assert (facts.endpoint, facts.caller.key_id, facts.tags, facts.prompt_tokens) == (
        Endpoint.CHAT,
        "nobody",
        (),
        1000,
    )
