"""`app.console.keys` on a real socket."""

from __future__ import annotations

import logging

import pytest

from app.console.access import AUDIT_LOG
from app.domain.keys import KeyKind, read_key
from app.flows.keys import refresh_keys
from app.live.keys import KnownKeys
from tests.console.served import PEPPERS, console
from tests.makers import NOON

WISH = {"name": "laptop", "team": "research", "cost_centre": "cc-1"}


async def test_a_made_key_is_shown_once_and_opens_the_gateway() -> None:
    async with console() as it:
        made = await it.ask("POST", "/api/keys", json={**WISH, "tags": ["ci"], "models": ["chat"]})
        listed = await it.get("/api/keys")
        known = KnownKeys(PEPPERS)
        await refresh_keys(it.house.keys, known)
    assert made.status == 201
    text = made.json["key"]
    key = read_key(text)
    assert key is not None
    assert key.kind is KeyKind.CALLER
    caller = known.find(text, at_s=NOON.timestamp())
    assert (caller.team, caller.tags, caller.models) == ("research", ("ci",), frozenset({"chat"}))
    assert text.split("_")[2].encode() not in listed.body
    assert listed.json["keys"] == [{name: made.json[name] for name in listed.json["keys"][0]}]
    assert "digest" not in listed.json["keys"][0]


@pytest.mark.parametrize(
    "extra",
    [
        {"role": "admin"},
        {"allowed_routes": ["/*"]},
        {"max_budget": 1e9},
        {"team_id": "other"},
        {"is_admin": True},
        {"key": "bk_mine"},
        {"key_id": "aaaaaaaa"},
        {"digest": "00"},
        {"created_at_s": 0},
    ],
)
async def test_a_field_that_no_form_names_is_refused_and_nothing_is_made(extra: dict[str, object]) -> None:
    """SEC-8."""
    async with console() as it:
        answer = await it.ask("POST", "/api/keys", json={**WISH, **extra})
        assert answer.status == 400
        assert answer.json["error"]["param"] == next(iter(extra))
        assert "no such field" in answer.json["error"]["message"]
        assert await it.house.keys.all() == ()


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"name": None}, "name"),
        ({"name": 5}, "name"),
        ({"team": ""}, "team"),
        ({"team": "two\r\nlines"}, "team"),
        ({"cost_centre": "x" * 129}, "cost_centre"),
        ({"cost_centre": "x" * 100_000}, None),
        ({"tags": "ci"}, "tags"),
        ({"tags": ["t"] * 65}, "tags"),
        ({"models": []}, "models"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2027-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": 1e300}, "expires_at"),
    ],
)
async def test_a_wish_that_cannot_be_granted_names_its_field(change: dict[str, object], param: str | None) -> None:
    async with console() as it:
        answer = await it.ask("POST", "/api/keys", json={**WISH, **change})
        assert answer.status == (400 if param else 413)
        assert answer.json["error"]["param"] == param
        assert await it.house.keys.all() == ()


async def test_what_was_sent_is_not_repeated_in_the_refusal() -> None:
    async with console() as it:
        answer = await it.ask("POST", "/api/keys", json={**WISH, "expires_at": "canary-7f3a", "extra": "canary-7f3a"})
    assert b"canary-7f3a" not in answer.body


async def test_a_key_may_expire_in_any_timezone() -> None:
    async with console() as it:
        answer = await it.ask("POST", "/api/keys", json={**WISH, "expires_at": "2026-11-23T14:30:00+02:00"})
    assert answer.json["expires_at"] == "2026-11-23T12:30:00Z"


async def test_a_revoked_key_stays_revoked_and_revoking_it_again_changes_nothing() -> None:
    async with console() as it:
        made = await it.ask("POST", "/api/keys", json=WISH)
        path = f"/api/keys/{made.json['key_id']}"
        answers = [await it.ask("DELETE", path) for _ in range(2)]
        listed = await it.get("/api/keys")
    assert [(answer.status, answer.json["state"]) for answer in answers] == [(200, "revoked")] * 2
    assert listed.json["keys"][0]["state"] == "revoked"


@pytest.mark.parametrize("key_id", ["unknown2", "x", "'%20or%201=1", "%00", "ABCDEFGH", "x" * 3000])
async def test_a_key_that_is_not_there_cannot_be_revoked(key_id: str) -> None:
    async with console() as it:
        assert (await it.ask("DELETE", f"/api/keys/{key_id}")).status == 404


async def test_while_postgres_is_away_no_key_is_made() -> None:
    async with console() as it:
        it.house.away()
        answer = await it.ask("POST", "/api/keys", json=WISH)
        it.house.away(False)
        assert answer.status == 503
        assert await it.house.keys.all() == ()


async def test_making_and_revoking_leave_audit_lines_without_the_key(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, AUDIT_LOG):
        async with console() as it:
            made = await it.ask("POST", "/api/keys", json=WISH)
            await it.ask("DELETE", f"/api/keys/{made.json['key_id']}")
    records = [each.__dict__["fields"] for each in caplog.records if each.name == AUDIT_LOG]
    assert [fields["action"] for fields in records] == ["key created", "key revoked"]
    assert all(fields["key"] == made.json["key_id"] for fields in records)
    assert made.json["key"] not in str([each.__dict__ for each in caplog.records])
