"""The policy's past over the console (`app.console.policy_history`, `app.console.policy_forms`)."""

from __future__ import annotations

import logging

import pytest

from app.console.access import AUDIT_LOG
from app.documents.compile import compile_policy, digest_of
from app.ports import Pin
from tests.archive import BROKEN, FILES, TURNED
from tests.console.served import House, console
from tests.flows.test_policy_moves import a_request

FIRST, SECOND, BAD = (digest_of(files) for files in (FILES, TURNED, BROKEN))


async def a_house() -> House:
    """FILES and TURNED were in force, BROKEN was refused, and TURNED lies on the shelf."""
    house = House(policy=compile_policy(TURNED).policy)
    house.cellar.shelf.files = TURNED
    for minute, files in enumerate((FILES, TURNED, BROKEN)):
        await house.cellar.remember(files, in_force=files is not BROKEN, seen_at_s=60 * minute)
    return house


async def test_the_history_lists_what_was_offered_with_its_fate_and_the_pin() -> None:
    async with console(await a_house()) as it:
        answer = await it.get("/api/policy/history")
        one = await it.get("/api/policy/history?limit=1")
    assert answer.status == 200
    assert (answer.json["in_force"], answer.json["pin"]) == (SECOND, None)
    assert [(each["digest"], each["in_force_at"] is None) for each in answer.json["revisions"]] == [
        (BAD, True),
        (SECOND, False),
        (FIRST, False),
    ]
    assert answer.json["revisions"][0]["findings"] == ["models.yaml:8:1: error: no good"]
    assert answer.json["revisions"][0]["files"] == ["models.yaml", "targets.yaml"]
    assert len(one.json["revisions"]) == 1


async def test_one_revision_is_shown_with_its_files_and_what_is_said_of_it_today() -> None:
    async with console(await a_house()) as it:
        good = await it.get(f"/api/policy/history/{FIRST[:6]}")
        bad = await it.get(f"/api/policy/history/{BAD}")
    assert good.json["files"] == dict(FILES)
    assert not [each for each in good.json["findings_today"] if each["severity"] == "error"]
    assert any("apo" in each["message"] for each in bad.json["findings_today"])


@pytest.mark.parametrize("digest", ["ffffffff", "x", "%00", "..%2f..%2f", "%27%20or%201=1"])
async def test_an_unknown_revision_is_a_404_that_says_what_there_is(digest: str) -> None:
    async with console(await a_house()) as it:
        answer = await it.get(f"/api/policy/history/{digest}")
    assert answer.status == 404
    if answer.json["error"]["code"] != "not_found":
        assert answer.json["error"]["code"] == "revision_unknown"
        assert BAD in answer.json["error"]["message"]


async def test_a_rollback_pins_as_the_operator_and_leaves_a_line_until_it_is_released(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, AUDIT_LOG):
        async with console(await a_house()) as it:
            back = await it.ask("POST", "/api/policy/rollback", json={"digest": FIRST[:8]})
            shown = await it.get("/api/policy/history")
            released = await it.ask("POST", "/api/policy/release", json={})
            again = await it.ask("POST", "/api/policy/release", json={})
    pin = {"digest": FIRST, "by": "operator", "pinned_at": "2026-11-23T12:00:00Z"}
    assert (back.status, back.json["pin"]) == (200, pin)
    assert shown.json["pin"] == pin
    assert [each["pinned"] for each in shown.json["revisions"]] == [False, False, True]
    assert released.json == {"released": pin}
    assert again.json == {"released": None}
    fields = [record.fields for record in caplog.records if record.name == AUDIT_LOG]  # type: ignore[attr-defined]
    assert fields == [
        {"action": "policy pinned", "digest": FIRST, "instead_of": None},
        {"action": "policy released", "digest": FIRST, "pinned_by": "operator"},
    ]


@pytest.mark.parametrize("extra", [{"by": "root"}, {"force": True}, {"pinned_at": 0}, {"role": "admin"}])
async def test_who_asks_never_stands_in_the_body(extra: dict[str, object]) -> None:
    async with console(await a_house()) as it:
        answer = await it.ask("POST", "/api/policy/rollback", json={"digest": FIRST, **extra})
        assert await it.house.cellar.history.pinned() is None
    assert answer.status == 400
    assert answer.json["error"]["param"] == next(iter(extra))


async def test_a_revision_that_is_not_valid_today_is_refused_with_findings_and_the_pin_before_stays() -> None:
    async with console(await a_house()) as it:
        before = Pin(digest=SECOND, by="Ada", pinned_at_s=1.0)
        await it.house.cellar.history.pin(before)
        answer = await it.ask("POST", "/api/policy/rollback", json={"digest": BAD})
        assert await it.house.cellar.history.pinned() == before
    assert (answer.status, answer.json["error"]["code"]) == (422, "policy_invalid")
    assert BAD in answer.json["error"]["message"]
    assert any("apo" in each["message"] for each in answer.json["findings"])


@pytest.mark.parametrize("digest", ["", "abc", "F" * 16, "g" * 8, "0" * 17, 12345678, None, "live"])
async def test_what_is_no_digest_is_a_400(digest: object) -> None:
    async with console(await a_house()) as it:
        answer = await it.ask("POST", "/api/policy/rollback", json={"digest": digest})
    assert (answer.status, answer.json["error"]["param"]) == (400, "digest")


async def test_a_diff_names_the_changes_and_the_requests_that_would_move() -> None:
    async with console(await a_house()) as it:
        await it.house.book(*(a_request(number) for number in (1, 2, 3)))
        answer = await it.ask("POST", "/api/policy/diff", json={"old": FIRST[:5], "new": "live", "last": 2})
        refused = await it.ask("POST", "/api/policy/diff", json={"old": BAD, "new": "files"})
        many = await it.ask("POST", "/api/policy/diff", json={"old": FIRST, "new": SECOND, "last": 10_001})
    assert answer.status == 200
    assert [change["says"] for change in answer.json["changes"]] == [
        'model chat: rule "everybody": use [home, api] → [api, home]'
    ]
    assert answer.json["requests"]["ways"] == [{"from": "home", "to": "api", "count": 2}]
    assert (refused.status, many.status) == (422, 400)


async def test_while_postgres_is_away_every_route_over_the_history_says_so() -> None:
    async with console(await a_house()) as it:
        it.house.away()
        answers = [
            await it.get("/api/policy/history"),
            await it.get(f"/api/policy/history/{FIRST}"),
            await it.ask("POST", "/api/policy/rollback", json={"digest": FIRST}),
            await it.ask("POST", "/api/policy/release", json={}),
            await it.ask("POST", "/api/policy/diff", json={"old": FIRST, "new": SECOND}),
        ]
    assert {(answer.status, answer.json["error"]["code"]) for answer in answers} == {(503, "books_away")}
