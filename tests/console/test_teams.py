"""`app.console.teams` on a real socket, and what teams mean for keys there."""

from __future__ import annotations

import logging

import pytest

from app.console.access import AUDIT_LOG
from tests.console.served import console

TEAM = {"name": "research", "cost_centre": "cc-1", "tokens_per_minute": 60_000}


async def test_a_made_team_is_listed_and_audited(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, AUDIT_LOG):
        async with console() as it:
            made = await it.ask("POST", "/api/teams", json=TEAM)
            listed = await it.get("/api/teams")
            again = await it.ask("POST", "/api/teams", json=TEAM)
    assert made.status == 201
    assert listed.json["teams"] == [made.json] == [{**TEAM, "requests_per_minute": None, "is_made": True}]
    assert (again.status, again.json["error"]["param"]) == (400, "name")
    assert [each.__dict__["fields"]["action"] for each in caplog.records if each.name == AUDIT_LOG] == ["team created"]


async def test_a_team_that_only_a_key_names_is_listed() -> None:
    async with console() as it:
        await it.ask("POST", "/api/keys", json={"name": "a", "team": "demo", "cost_centre": "cc-2"})
        listed = await it.get("/api/teams")
    limits = {"requests_per_minute": None, "tokens_per_minute": None, "is_made": False}
    assert listed.json["teams"] == [{"name": "demo", "cost_centre": "cc-2", **limits}]


@pytest.mark.parametrize(
    ("change", "param"),
    [({"name": ""}, "name"), ({"tokens_per_minute": 0}, "tokens_per_minute"), ({"owner": "me"}, "owner")],
)
async def test_a_team_that_cannot_be_made_names_its_field(change: dict[str, object], param: str) -> None:
    async with console() as it:
        answer = await it.ask("POST", "/api/teams", json={**TEAM, **change})
        assert (answer.status, answer.json["error"]["param"]) == (400, param)
        assert await it.house.teams.all() == ()


async def test_a_key_is_paid_for_by_its_team_unless_it_says_otherwise() -> None:
    async with console() as it:
        await it.ask("POST", "/api/teams", json=TEAM)
        first = await it.ask("POST", "/api/keys", json={"name": "a", "team": "research"})
        second = await it.ask("POST", "/api/keys", json={"name": "b", "team": "research", "cost_centre": "cc-2"})
        stray = await it.ask("POST", "/api/keys", json={"name": "c", "team": "sales", "cost_centre": "cc-2"})
    assert (first.json["cost_centre"], second.json["cost_centre"]) == ("cc-1", "cc-2")
    assert (stray.status, stray.json["error"]["param"]) == (400, "team")


async def test_a_rotated_key_names_its_successor_which_is_shown_once() -> None:
    async with console() as it:
        wish = {"name": "a", "team": "t", "cost_centre": "cc", "requests_per_minute": 5}
        old = await it.ask("POST", "/api/keys", json=wish)
        path = f"/api/keys/{old.json['key_id']}/rotation"
        new = await it.ask("POST", path, json={"overlap_s": 3600})
        again = await it.ask("POST", path, json={})
        listed = await it.get("/api/keys")
        missing = await it.ask("POST", "/api/keys/x/rotation", json={})
    assert new.status == 201
    assert new.json["key"] != old.json["key"]
    assert new.json["requests_per_minute"] == 5
    by_id = {each["key_id"]: each for each in listed.json["keys"]}
    assert by_id[old.json["key_id"]]["successor"] == new.json["key_id"]
    assert by_id[old.json["key_id"]]["expires_at"] == "2026-11-23T13:00:00Z"
    assert (again.status, missing.status) == (400, 404)
