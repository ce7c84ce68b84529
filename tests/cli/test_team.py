"""`app.cli.team`, and keys of teams, rotated and limited, over a real database."""

from __future__ import annotations

import pytest

from app.cli.key import read_span
from app.cli.limits import limits_text, limits_view
from app.cli.team import app
from app.domain.errors import BadRequest
from app.domain.limits import UNLIMITED, RateLimits
from tests.cli.test_commands import desk
from tests.command_line import HereAtOnce

__all__ = ["desk"]


def test_teams_are_made_listed_and_limited(desk: HereAtOnce) -> None:
    assert desk("team", "list").status == 0
    desk("key", "create", "a", "--team", "demo", "--cost-centre", "cc-9")
    named = desk("team", "list")
    assert named.out.splitlines()[1].split() == ["demo", "cc-9", "no", "limits"]
    assert "named by keys alone: demo" in named.err
    assert desk("team", "list", "--json").value == [
        {
            "name": "demo",
            "cost_centre": "cc-9",
            "requests_per_minute": None,
            "tokens_per_minute": None,
            "is_made": False,
        }
    ]
    assert "`breakeven team create" in desk("team", "limit", "demo").err
    desk("key", "revoke", desk("key", "list", "--json").value[0]["id"])
    assert desk("team", "create", "research", "--cost-centre", "cc-1", "--requests-per-minute", "100").status == 0
    assert desk("team", "limit", "research", "--tokens-per-minute", "9").out == "team research: 9 tokens per minute\n"
    assert desk("team", "list", "--json").value == [
        {
            "name": "research",
            "cost_centre": "cc-1",
            "requests_per_minute": None,
            "tokens_per_minute": 9,
            "is_made": True,
        }
    ]
    assert "9 tokens per minute" in desk("team", "list").out
    again = desk("team", "create", "research", "--cost-centre", "cc-1")
    assert (again.status, "already" in again.err) == (1, True)


def test_a_key_of_a_team_is_limited_shown_and_rotated(desk: HereAtOnce) -> None:
    desk("team", "create", "research", "--cost-centre", "cc-1")
    made = desk("key", "create", "a", "--team", "research", "--requests-per-minute", "7", "--json").value
    assert (made["cost_centre"], made["requests_per_minute"]) == ("cc-1", 7)
    stray = desk("key", "create", "b", "--team", "sales", "--cost-centre", "cc-2")
    assert (stray.status, "breakeven team create" in stray.err) == (1, True)

    new = desk("key", "rotate", made["key"], "--overlap", "24h", "--json").value
    assert (new["follows"], new["requests_per_minute"], new["team"]) == (made["id"], 7, "research")
    old = desk("key", "show", made["id"], "--json").value
    assert (old["successor"], old["state"], old["expires_at"] is not None) == (new["id"], "active", True)
    assert new["id"] in desk("key", "show", made["id"]).out
    assert "was rotated already" in desk("key", "rotate", made["id"]).err
    shown = desk("key", "rotate", new["id"], "--overlap", "0")
    assert shown.out.startswith("bk_")
    assert "expired" in desk("key", "rotate", new["id"]).err

    assert desk("key", "limit", made["id"], "--tokens-per-minute", "5", "--json").value == {
        "id": made["id"],
        "requests_per_minute": None,
        "tokens_per_minute": 5,
    }
    assert desk("key", "show", new["id"], "--json").value["tokens_per_minute"] == 5
    assert desk("key", "limit", made["id"]).out == f"key {made['id']}: no limits\n"
    for refused in (("limit", "missing2"), ("show", "missing2"), ("rotate", "missing2")):
        assert "breakeven key list" in desk("key", *refused).err


@pytest.mark.parametrize(("text", "hours"), [("24h", 24), ("7d", 168), ("0", 0)])
def test_a_span_is_days_or_hours(text: str, hours: int) -> None:
    assert read_span(text).total_seconds() == hours * 3600


@pytest.mark.parametrize("text", ["", "soon", "24", "-1h"])
def test_what_is_no_span_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(BadRequest, match="write 24h"):
        read_span(text)


def test_limits_are_told_in_words_and_values() -> None:
    assert limits_text(UNLIMITED) == "no limits"
    limits = RateLimits(requests_per_minute=1, tokens_per_minute=2)
    assert limits_text(limits) == "1 requests per minute, 2 tokens per minute"
    assert limits_view(limits) == {"requests_per_minute": 1, "tokens_per_minute": 2}
    assert app.info.help
